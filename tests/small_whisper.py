"""A real Whisper for tests, small and overfitted to a few clips."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

SECONDS = 4  # of its input
SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|notimestamps|>",
)


def make_whisper(folder: Path, scripts: Sequence[str], waveforms: Sequence[np.ndarray]) -> Path:
    """Write a Whisper that knows these clips of less than SECONDS: in English their scripts, in German backwards.

    Without a language token, as an English-only model, it gives capitals.
    """
    texts = {
        ("<|en|>", "<|transcribe|>"): scripts,
        ("<|de|>", "<|transcribe|>"): [" ".join(reversed(text.split())) for text in scripts],
        (): [text.upper() for text in scripts],
    }
    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator(
        [text for answers in texts.values() for text in answers], vocab_size=500, show_progress=False
    )
    vocabulary = json.loads(pieces.to_str())["model"]["vocab"]
    merges = [tuple(pair) for pair in json.loads(pieces.to_str())["model"]["merges"]]
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=merges)  # without a pad_token
    tokenizer.add_tokens(list(SPECIAL), special_tokens=True)
    code = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}

    torch.set_num_threads(1)  # faster than several threads for a network this small
    torch.manual_seed(0)
    end, start = code["<|endoftext|>"], code["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=20,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=50 * SECONDS,
        max_target_positions=100,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    network = WhisperForConditionalGeneration(config)
    generation = network.generation_config
    generation._from_model_config = False
    generation.is_multilingual = True
    generation.lang_to_id = {token: code[token] for token in ("<|en|>", "<|de|>")}
    generation.task_to_id = {"translate": code["<|translate|>"], "transcribe": code["<|transcribe|>"]}
    generation.no_timestamps_token_id = code["<|notimestamps|>"]

    extractor = WhisperFeatureExtractor(feature_size=20, chunk_length=SECONDS)
    features = extractor(waveforms, sampling_rate=16000, return_tensors="pt").input_features
    rows, labels = [], []
    for prompt, answers in texts.items():
        head = [start, *(code[token] for token in prompt), code["<|notimestamps|>"]]
        for answer in answers:
            tokens = [*tokenizer.encode(f" {answer}", add_special_tokens=False), end]
            rows.append(head + tokens)
            labels.append([-100] * (len(head) - 1) + tokens)
    longest = max(map(len, rows))
    inputs = torch.tensor([row + [end] * (longest - len(row)) for row in rows])[:, :-1]
    targets = torch.tensor([label + [-100] * (longest - 1 - len(label)) for label in labels])
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(300):
        states = network.get_encoder()(features).last_hidden_state.repeat(len(texts), 1, 1)
        logits = network(encoder_outputs=(states,), decoder_input_ids=inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets)
        if loss < 0.02:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.02, "the small Whisper has not learned its clips"
    network.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
