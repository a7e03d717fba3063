"""One run on disk: create its folder, read and write its files, where it comes from, how two configurations differ."""

from emokeras.runs.content import (
    Predictions,
    append_history,
    read_history,
    read_json,
    read_metrics,
    read_predictions,
    read_split,
    read_stacked,
    write_json,
    write_predictions,
    write_split,
)
from emokeras.runs.folder import (
    PREDICTION_FILES,
    REFIT,
    check_run,
    corpus_name_of,
    create_run,
    default_run_dir,
    file_name_of,
    newest_version,
    run_folder_name,
    run_name,
)
from emokeras.runs.kept import (
    CONDITIONS_FOLDER,
    RESULT_FILES,
    condition_folder,
    keep_condition,
    keep_results,
    results_folder,
)
from emokeras.runs.provenance import (
    EARLIER_FILE,
    EARLIER_FILES,
    clips_used,
    json_with_removed,
    read_earlier_splits,
    shareable_config,
    shareable_json,
    shareable_name,
    was_refit,
    write_earlier_splits,
)
from emokeras.runs.shipped import SHIPPED, find_model
