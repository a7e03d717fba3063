"""Numbers and values as text."""

from emokeras.reporting.texts import markdown_table, short, with_interval


def test_a_share_has_its_interval_or_the_range_over_speakers():
    assert with_interval(0.8123, [0.78, 0.841]) == "81.2 [78.0, 84.1]"
    assert with_interval(0.75, None, [0.671, 0.81, 0.7]) == "75.0 (67.1 to 81.0 over 3 speakers)"
    assert with_interval(0.75, None, [0.75]) == with_interval(0.75, None) == "75.0"


def test_names_are_never_cut():
    members = ["mel-resnet-muon", "mfcc-resnet-muon", "mfcc-delta-tcn-muon-long", "prosody-tcn-muon"]
    assert short(members) != short([*members[:-1], "prosody-tcn"])
    assert short(members) == ", ".join(members)
    assert short("a-long-name" * 10) == "a-long-name" * 10


def test_other_values_are_rounded_and_cut():
    assert short(0.123456789) == "0.123457"
    assert short(list(range(100))) == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16..."
    assert len(short(list(range(100)))) == 60


def test_text_columns_are_left_aligned():
    lines = markdown_table([{"recipe": "a|b", "WA %": "81.2"}], ("recipe",))
    assert lines == ["| recipe | WA % |", "| --- | ---: |", r"| a\|b | 81.2 |"]
