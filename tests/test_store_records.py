"""Records: what no file could keep is refused when it is made."""

from datetime import datetime

import numpy as np
import pytest
from store_samples import FINGERPRINT, make_run

from store import (
    Artifact,
    Prompt,
    Run,
    TokenRows,
)


def make_artifact(name: str = "kind", **settings: object) -> Artifact:
    return Artifact(
        name=name, method="steering:ICV", kind="v", fingerprint=FINGERPRINT, settings=settings
    )


def rows(**columns: object) -> TokenRows:
    usual = {"prompt": np.array([0, 1]), "pos": np.zeros(2, int), "token_id": np.zeros(2, int),
             "token_str": ["a", "b"]}  # fmt: skip
    return TokenRows(**{**usual, **columns})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prompt(text="a\ud800"), "text of a prompt holds a lone surrogate at character 1"),
        (lambda: Prompt(text="", tags=("\udfff",)), "tag of a prompt holds a lone surrogate"),
        (lambda: Prompt(text="", meta={"k": "\ud800"}), "meta of a prompt holds a lone surrogate"),
        (lambda: Prompt(text="", meta={"k": float("nan")}), "meta of a prompt must be JSON"),
        (lambda: make_artifact("\ud800"), "the name of an artifact holds a lone surrogate"),
        (lambda: make_artifact(""), "an artifact needs a name"),
        (lambda: make_artifact(x=object()), "settings of an artifact must be JSON"),
        (lambda: make_run(dtype="f64"), "rows cannot be stored as 'f64': choose f32, f16 or bf16"),
        (lambda: Run(uuid="nope", fingerprint=FINGERPRINT, dtype="f32"), "badly formed"),
        (lambda: Run(uuid="3F2A0000-0000-4000-8000-000000000000", fingerprint=FINGERPRINT,
                     dtype="f32"), "is not a UUID in its usual form"),
        (lambda: Run(fingerprint=FINGERPRINT, dtype="f32", created_at=datetime(2026, 1, 1)),
         "has no time zone"),
        (lambda: Run(fingerprint=FINGERPRINT, dtype="f32", seed=2**63), "does not fit 64 bits"),
        (lambda: rows(token_str=["a"]), "token rows must be parallel, but their lengths are"),
        (lambda: rows(prompt=np.array([1, 0])), "rows of one prompt must lie together"),
        (lambda: rows(token_str=["a", "\ud800"]), "token_str holds a lone surrogate"),
    ],
)  # fmt: skip
def test_records_that_no_file_could_keep_are_refused_when_they_are_made(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
