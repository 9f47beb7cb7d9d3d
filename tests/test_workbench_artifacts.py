"""Names in files are imported only from our own packages; what is saved says whose it is."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steering import ICV, SteeringVector
from store import Fingerprint, Site
from workbench.artifacts import code_version, kind_of, record, resolve, same_model

FINGERPRINT = Fingerprint(model="a", weights_hash="w", tokenizer_hash="t")


def vector(**fields: Any) -> SteeringVector:
    return SteeringVector(directions={Site("resid_post", 1): torch.ones(3)}, **fields)


@pytest.mark.parametrize(
    "name",
    [
        "os:system", "builtins:eval", "subprocess:run", "workbench.cli.app:main", "store:Store",
        "steering.__init__:ICV", "steering.__init__:import_module", "steering.icv.__doc__:ICV",
        "steering.__builtins__:eval", "steering:__class__", "steering:__builtins__",
        "steering:ICV.fit", "steering:ICV.__init__", "steering.vector:torch",
        "steering.icv:Any", "steering:import_module", "steering.vector:SteeringVector.__class__",
        "steeringx:ICV", "steering_evil.icv:ICV", "steering", "steering.icv.ICV", "steering:",
        ":ICV", "", "steering:ICV\n", "os;steering:ICV", "steering..icv:ICV", "../steering:ICV",
        "steering.icv:Sequence", "probes.os:system",
    ],
)  # fmt: skip
def test_names_outside_the_allowed_packages_and_dunder_tricks_are_refused(name: str) -> None:
    with pytest.raises(LookupError, match=r"is not allowed: |there is no "):
        resolve(name)


@given(st.text(max_size=20))
def test_no_text_resolves_to_anything_but_our_own(name: str) -> None:
    try:
        found = resolve(name)
    except LookupError:
        return
    assert found.__module__.split(".")[0] in ("steering", "probes")


def test_methods_and_kinds_are_found_by_their_names() -> None:
    assert resolve("steering:ICV") is ICV
    assert resolve("steering.icv:ICV") is ICV
    assert resolve(kind_of(vector())) is SteeringVector


def test_an_unknown_method_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(LookupError, match="there is no steering:East: .*it has ICV, SteeringVec"):
        resolve("steering:East")
    with pytest.raises(LookupError, match="there is no steering.nowhere:ICV"):
        resolve("steering.nowhere:ICV")
    with pytest.raises(LookupError, match="names look like steering:ICV and lie in steering, prob"):
        resolve("os:system")


def test_a_record_carries_method_kind_settings_and_provenance() -> None:
    made = vector(fingerprint=FINGERPRINT, strength=2.0, method="steering:ICV")
    row, arrays = record("kind", made)
    assert (row.name, row.method, row.kind) == (
        "kind", "steering:ICV", "steering.vector:SteeringVector",
    )  # fmt: skip
    assert row.fingerprint == FINGERPRINT
    assert row.code_version == code_version() != ""
    assert row.settings["strength"] == 2.0
    assert arrays["resid_post.1"].tolist() == [1, 1, 1]


def test_what_is_no_artifact_or_has_no_provenance_is_not_saved() -> None:
    with pytest.raises(ValueError, match="cannot save 'kind' without provenance: build it with"):
        record("kind", vector())
    value: Any = 3
    with pytest.raises(TypeError):
        record("kind", value)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"model": "b"}, True),
        ({"revision": "r"}, True),
        ({"tokenizer_hash": ""}, True),
        ({"tokenizer_hash": "u"}, False),
        ({"weights_hash": "x"}, False),
        ({"basis": "folded"}, False),
    ],
    ids=str,
)
def test_a_model_is_its_weights_basis_and_tokenizer_not_its_name(
    change: dict[str, str], same: bool
) -> None:
    fields = {"model": "a", "weights_hash": "w", "tokenizer_hash": "t", **change}
    other = Fingerprint(**fields)
    assert same_model(FINGERPRINT, other) is same_model(other, FINGERPRINT) is same
