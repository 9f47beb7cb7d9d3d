"""The command line: the main job end to end, and one sentence for everything a user can mend."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from transformers.utils import logging

import workbench
from steering import SteeringVector, evaluate
from store import Site, Store
from workbench.cli import app, demo, inputs

PAIRS = [("the food was bad", "the food was good"), ("it is slow", "it is quick")]


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Run]:
    """Run the command in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    level = logging.get_verbosity()

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main([str(one) for one in arguments])
        said = capsys.readouterr()
        return Done(code=int(ended.value.code or 0), out=said.out, err=said.err)

    yield call
    logging.set_verbosity(level)
    logging.enable_progress_bar()


def quietly(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        app.main([str(one) for one in arguments])
    assert not ended.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, pairs, a tiny model, and a store with a run and four vectors."""
    made = tmp_path_factory.mktemp("cli")
    (made / "texts.txt").write_text("The food was great.\n\nAlma lives in Rome.\n")
    lines = [json.dumps({"before": before, "after": after}) for before, after in PAIRS]
    (made / "pairs.jsonl").write_text("\n".join(lines))
    tiny.model("gpt2").save_pretrained(made / "tiny")
    tiny.tokenizer().save_pretrained(made / "tiny")
    lab = ("--store", made / "lab")
    quietly("capture", "pocket", made / "texts.txt", "--name", "first", "--why", "a test", *lab)
    quietly("fit", "steering:ICV", made / "pairs.jsonl", "--as", "kind", *lab)
    quietly("fit", "steering:ICV", made / "pairs.jsonl", "--as", "other", "--model",
            made / "tiny", *lab)  # fmt: skip
    with workbench.open(store=made / "lab") as session:
        wide = SteeringVector(
            directions={Site("resid_post", 1): torch.ones(7)}, name="wide",
            fingerprint=session.backend.spec.fingerprint,
        )  # fmt: skip
        session.save("wide", wide)
        big = replace(wide, name="big", directions={Site("resid_post", 0): torch.full([128], 1e38)})
        session.save("big", big)
    return made


@pytest.fixture
def lab(folder: Path, tmp_path: Path) -> Path:
    """A copy of the store, to write into."""
    return shutil.copytree(folder / "lab", tmp_path / "copy")


def kept(store: Path) -> set[str]:
    """Name every durable file: the catalog is derived and may come and go."""
    paths = (path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)) for path in paths if "catalog" not in path.name}


def refused(done: Done, message: str) -> None:
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1, done.err
    assert "Traceback" not in done.err + done.out
    assert re.search(message, done.err), done.err


def test_help_lists_every_command_and_every_command_explains_itself(run: Run) -> None:
    commands = ("demo", "capture", "fit", "generate", "list", "sql", "serve")
    said = run("--help")
    assert said.code == 0
    for command in commands:
        assert re.search(rf"{command} +\w", said.out)
        own = run(command, "--help")
        assert (
            own.code == 0
            and "Usage:" in own.out
            and "--store" in own.out + "--store" * (command == "serve")
        )


def test_what_typer_refuses_ends_with_code_2_and_without_a_traceback(run: Run) -> None:
    for arguments in ([], ["generate"], ["generate", "x", "--max-new-tokens", "few"], ["fly"]):
        done = run(*arguments)
        assert done.code == 2 and "Traceback" not in done.err


def test_capture_says_what_the_store_then_holds(run: Run, folder: Path) -> None:
    done = run(
        "capture", "pocket", folder / "texts.txt", "--at", "resid_post.1-2", "--dtype", "f32"
    )
    assert done.code == 0 and done.err == ""
    found = re.fullmatch(r"run:(\w{8}) holds (\d+) tokens of 2 texts at (.*)\n", done.out)
    assert found is not None and found[3] == "resid_post.1, resid_post.2"
    with Store.open("lab", create=False) as store:
        recorded = store.read(found[1])
        assert recorded.n_rows == int(found[2])
        assert [one.text for one in recorded.prompts] == [
            "The food was great.", "Alma lives in Rome.",
        ]  # fmt: skip
        assert recorded.run.dtype == "f32"


def test_fit_saves_with_its_settings_and_generate_steers_with_a_receipt(
    run: Run, folder: Path
) -> None:
    done = run("fit", "steering:ICV", folder / "pairs.jsonl", "--as", "mild [x]",
               "--set", "at=resid_post.1-2", "--set", "components=1",
               "--set", "keep_punctuation=False")  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert done.out == "saved 'mild [x]', learned by steering:ICV from 2 pairs, in lab\n"
    with workbench.open(store="lab") as session:
        vector = session.load("mild [x]")
        assert [site.layer for site in vector.directions] == [1, 2]
        assert vector.notes["settings"]["components"] == 1
        assert vector.notes["settings"]["keep_punctuation"] is False
    steered = run("generate", "The food was", "--steer", "mild [x]=0.2", "--max-new-tokens", "6")
    text, receipt = steered.out.rstrip("\n").rsplit("\n", 1)
    assert text.startswith("The food was ")
    assert re.match(r"  icv: \d+ positions at 2 sites \(resid_post.1 … resid_post.2\), m", receipt)


def test_generate_is_the_librarys_text_and_needs_no_store(run: Run, folder: Path) -> None:
    done = run("generate", "The food was", "--max-new-tokens", "6")
    assert not Path("lab").exists()
    with workbench.open(store=folder / "lab") as session:
        plain = session.generate("The food was", max_new_tokens=6)
        both = [0.5 * session.load("kind"), -1 * session.load("kind")]
        steered = session.generate("The food was", max_new_tokens=6, steer=both)
    assert done.out == f"{plain}\n"
    twice = run("generate", "The food was", "--max-new-tokens", "6", "--store", folder / "lab",
                "--steer", "kind=0.5", "--steer", "kind=-1")  # fmt: skip
    assert twice.out.startswith(f"{steered}\n  icv: ")
    assert twice.out.count("positions at 4 sites") == 2


def test_a_seed_samples_the_same_text_again_and_another_seed_another(run: Run) -> None:
    texts = [run("generate", "The", "--seed", seed).out for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_list_and_sql_print_what_is_there(run: Run, folder: Path) -> None:
    runs = run("list", "runs", "--store", folder / "lab")
    assert re.search(r"first +pocket +bf16 +2 +\d+ +sealed .* a test", runs.out)
    artifacts = run("list", "artifacts", "--store", folder / "lab")
    assert re.search(r"kind +steering:ICV +pocket", artifacts.out)
    counted = run("sql", "SELECT count(*) AS n FROM prompt", "--store", folder / "lab")
    assert counted.out.split() == ["n", "2"]


def test_tables_print_brackets_as_they_are_and_say_what_they_cut(run: Run, folder: Path) -> None:
    query = "SELECT '[/INST] [bold]x' AS \"a[b]\", [1.5, 2] AS l, NULL AS nothing"
    said = run("sql", query, "--store", folder / "lab")
    assert "a[b]" in said.out and "[/INST] [bold]x" in said.out and "None" not in said.out
    long = run("sql", "SELECT range AS i FROM range(60)", "--store", folder / "lab")
    assert "… 10 more rows" in long.out
    vectors = run("sql", "SELECT vec FROM activation_128 LIMIT 1", "--store", folder / "lab")
    assert "… 128 values]" in vectors.out


CAPTURE = ("capture", "pocket", "{folder}/texts.txt")
FIT = ("fit", "steering:ICV", "{folder}/pairs.jsonl", "--as", "x")
GENERATE = ("generate", "The food")
BAD = {
    "unknown site": ((*CAPTURE, "--at", "resid_mid.1"), "no site resid_mid.1: pocket has layers 0"),
    "no site": ((*CAPTURE, "--at", "nonsense"), "nonsense.*there are embed|no part 'nonsense'"),
    "layer": ((*CAPTURE, "--at", "resid_post.9"), "no site resid_post.9: .*layers 0-3; write"),
    "dtype": ((*CAPTURE, "--dtype", "f64"), "cannot be stored as 'f64': choose f32, f16 or bf16"),
    "model": (("capture", "acme/none", CAPTURE[2]), "no model 'acme/none': there is the embedded"),
    "no file": (("capture", "pocket", "none.txt"), "cannot read none.txt: No such file .*; name"),
    "folder": (("capture", "pocket", "{folder}"), "cannot read .*: Is a directory; name a text"),
    "settings": ((*FIT, "--set", "layer=3"), "no setting 'layer=3': ICV takes at=…, components=…"),
    "no value": ((*FIT, "--set", "at"), "no setting 'at': ICV takes at=…"),
    "type": ((*FIT, "--set", "components=null"), "components=null: components is of type int"),
    "cut": ((*FIT, "--set", "components=1.5"), "components=1.5: components is of type int"),
    "bool": ((*FIT, "--set", "keep_punctuation=2"), "keep_punctuation=2: .* is of type bool"),
    "rule": ((*FIT, "--set", "rule=push"), "no rule 'push': there are add, add_relative, icv"),
    "method": (("fit", "steering:EAST", *FIT[2:]), "there is no steering:EAST: .*it has ICV, "),
    "elsewhere": (("fit", "os:system", *FIT[2:]), "'os:system' is not allowed: names look like"),
    "no method": (("fit", "steering:steered", *FIT[2:]), "steered is no method: it has no fit"),
    "a value": (("fit", "steering:SteeringVector", *FIT[2:]), "SteeringVector is no method"),
    "unnamed": ((*FIT[:4], ""), "an artifact needs a name: give one"),
    "vector": ((*GENERATE, "--steer", "mood=1"), "no artifact 'mood': there are .*kind.*; write"),
    "nan": ((*GENERATE, "--steer", "kind=nan"), "strength nan is no finite number: give one in un"),
    "inf": ((*GENERATE, "--steer", "kind=inf"), "strength inf is no finite number"),
    "huge": ((*GENERATE, "--steer", "big=10"), "not finite at resid_post.0: lower the stre"),
    "number": ((*GENERATE, "--steer", "kind=much"), "--steer kind=much: write name=strength, as"),
    "its model": ((*GENERATE, "--steer", "other"), "'other' belongs to .*tiny .*, this is pocket"),
    "width": ((*GENERATE, "--steer", "wide"), "wide has width 7 at resid_post.1, pocket has 128"),
    "length": ((*GENERATE, "--max-new-tokens", "300"), "tokens and max_new_tokens=300 exceed"),
    "none new": ((*GENERATE, "--max-new-tokens", "0"), "max_new_tokens.* must be greater than 0"),
    "list": (("list", "jobs"), "cannot list 'jobs': there are runs and artifacts"),
    "drop": (("sql", "DROP TABLE run"), "this SQL did not run"),
    "insert": (("sql", "INSERT INTO run SELECT * FROM run"), "this SQL did not run"),
    "copy": (("sql", "COPY run TO 'run.csv'"), "this SQL did not run: .*disabled by config"),
    "attach": (("sql", "ATTACH 'mine.db'"), "this SQL did not run"),
    "read": (("sql", "SELECT * FROM read_text('/etc/hostname')"), "this SQL did not run"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_sentence_and_changes_nothing(
    run: Run, folder: Path, lab: Path, case: str
) -> None:
    arguments, message = BAD[case]
    before = kept(lab)
    done = run(*(one.format(folder=folder) for one in arguments), "--store", lab)
    refused(done, message)
    assert kept(lab) == before
    assert {path.name for path in Path().iterdir()} == {"copy"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no text: give it at least one line"),
        (b"\n  \n", "holds no text"),
        (b"caf\xe9\n", r"it is not UTF-8 \(byte 3\); convert it first"),
        (
            b"fine\n" + b"word " * 300,
            "prompt 1 has [0-9]+ tokens: the context of pocket is 256",
        ),
    ],
    ids=["empty", "blank", "latin", "long"],
)
def test_texts_that_cannot_be_captured_are_refused_before_a_run_begins(
    run: Run, lab: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    before = kept(lab)
    refused(run("capture", "pocket", "bad.txt", "--store", lab), message)
    assert kept(lab) == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"before": "a", "after": ', "bad.jsonl, line 3: expected .* this is no JSON: "),
        ('{"before": "a"}', 'line 3: expected .* there is {"before": "a"}'),
        ('["a", "b"]', "line 3: expected"),
        ('{"before": "a", "after": null}', "line 3: expected .*both must be texts"),
    ],
)
def test_a_bad_line_of_pairs_is_named_by_its_number(
    run: Run, folder: Path, lab: Path, line: str, message: str
) -> None:
    good = json.dumps({"before": "a", "after": "b"})
    Path("bad.jsonl").write_text(f"{good}\n\n{line}\n{good}\n")
    before = kept(lab)
    refused(run("fit", "steering:ICV", "bad.jsonl", "--as", "x", "--store", lab), message)
    assert kept(lab) == before


def test_lines_end_at_line_feeds_alone_and_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("\ufeffone\u2028still one\r\ntwo\x0cstill two\n".encode())
    assert inputs.lines(tmp_path / "t.txt") == ["one\u2028still one", "two\x0cstill two"]
    (tmp_path / "p.jsonl").write_text('{"before": "a\u2028b", "after": "c"}', encoding="utf-8")
    assert inputs.pairs(tmp_path / "p.jsonl") == [("a\u2028b", "c")]


@pytest.mark.parametrize("command", [("list", "runs"), ("sql", "SELECT 1"), CAPTURE],
                         ids=lambda one: one[0])  # fmt: skip
def test_a_path_that_is_no_store_is_refused_and_left_alone(
    run: Run, folder: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    Path("file").write_text("mine")
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("mine")
    Path("newer").mkdir()
    Path("newer/store.json").write_text('{"format": 99}')
    said = {
        "file": "file is a file: name a directory",
        "mine": "mine is not a store, and not empty: it has no store.json; name another directory",
        "newer": "newer has format 99 and this program reads up to 1: upgrade",
    }
    before = kept(tmp_path)
    for path, message in said.items():
        refused(run(*(one.format(folder=folder) for one in command), "--store", path), message)
    assert kept(tmp_path) == before


@pytest.mark.parametrize("command", [
    ("list", "runs"), ("sql", "SELECT 1"), (*GENERATE, "--steer", "kind"),
], ids=lambda one: one[0])  # fmt: skip
def test_reading_does_not_begin_a_store(run: Run, command: tuple[str, ...]) -> None:
    refused(run(*command, "--store", "none"), "no store at none: name another with --store, or mak")
    assert not Path("none").exists()


def test_a_full_disk_leaves_a_failed_run_and_a_store_that_works_again(
    run: Run, folder: Path, lab: Path
) -> None:
    Path("many.txt").write_text("The food was great.\n" * 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, hard))
    try:
        full = run("capture", "pocket", "many.txt", "--name", "full", "--store", lab)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(full, "cannot write .*: File too large; nothing of it was kept. Free space")
    assert not [name for name in kept(lab) if name.endswith(".tmp")]
    with Store.open(lab) as store:
        assert (store.read("full").status, store.read("full").n_rows) == ("failed", 0)
    assert run("capture", "pocket", "many.txt", "--store", lab).code == 0
    assert "full" in run("list", "runs", "--store", lab).out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_without_permission_to_write_nothing_is_written_and_reading_goes_on(
    folder: Path, tmp_path: Path
) -> None:
    program = (
        "import json, os, sys; from workbench.cli.app import main\n"
        "for i, arguments in enumerate(json.loads(sys.argv[1])):\n"
        # Only then: the interpreter may lie where nobody else can import from.
        "    if i == 2: os.setgid(65534); os.setuid(65534)\n"
        "    try: main(arguments)\n"
        "    except SystemExit as ended: print('code', ended.code, flush=True)\n"
    )
    # Not below pytest's own folder, which nobody else may enter.
    with tempfile.TemporaryDirectory() as public:
        Path(public).chmod(0o755)
        lab, texts = shutil.copytree(folder / "lab", Path(public) / "lab"), Path(public) / "t.txt"
        texts.write_text("The food was great.\n")
        before = kept(Path(public))
        commands = [
            ["capture", "pocket", str(texts), "--store", str(tmp_path / "own")],
            ["list", "runs", "--store", str(tmp_path / "own")],
            ["capture", "pocket", str(texts), "--store", str(lab)],
            ["capture", "pocket", str(texts), "--store", f"{public}/new"],
            ["list", "runs", "--store", str(lab)],
        ]
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(commands)],
            capture_output=True, text=True, env={**os.environ, "HOME": "/nonexistent"},
        )  # fmt: skip
        assert kept(Path(public)) == before
    assert re.findall(r"code (\w+)", done.stdout) == ["0", "0", "2", "2", "0"], done
    assert "first" in done.stdout
    first, second = done.stderr.strip().split("\n")
    assert re.match(r"error: cannot write .*lab.*: .*permissions forbid it; allow writing", first)
    assert re.match(r"error: cannot write .*new: Permission denied; nothing of it was k", second)


def test_the_installed_command_ends_with_one_sentence_and_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "list", "nonsense"], capture_output=True, text=True
    )
    refused(Done(code=done.returncode, out=done.stdout, err=done.stderr), "cannot list 'nonsense'")
    assert done.stdout == ""


def test_a_mistake_of_our_own_is_not_worded_as_the_users(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path) -> list[str]:
        raise KeyError("ours")

    monkeypatch.setattr(inputs, "lines", broken)
    with pytest.raises(KeyError, match="ours"):
        app.main(["capture", "pocket", "t.txt"])


def test_the_demo_reports_an_effect_beside_its_controls_and_runs_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"N_TEXTS": 12, "N_PAIRS": 6, "N_PROMPTS": 8, "GRID": (0.1, 0.2)}.items():
        monkeypatch.setattr(demo, name, value)
    few = partial(evaluate.controls, n_random=2, n_shuffled=2)
    monkeypatch.setattr(evaluate, "controls", few)
    for _ in range(2):
        done = run("demo", "--store", "lab")
        assert done.code == 0
        assert re.search(r"at λ = 0.[12] the vector shifts the log-odds .* nats \[", done.out)
        assert re.search(r"The effect exceeds its controls|No effect beyond the controls", done.out)
        for shown in ("run:", "plain |", "receipt: icv", "saved in lab as 'sentiment'"):
            assert shown in done.out
    report = Path("lab/reports/demo.html").read_text()
    assert done.out.count("lab/reports/demo.html") == 1
    assert "What was seen" in report and "plotly" in report
    assert not re.search(r"""<(script|link|img)[^>]+(src|href)=["']?(http|//)""", report)
    with Store.open("lab", create=False) as store:
        assert [one.name for one in store.runs()] == ["demo", "demo"]
        assert [one.name for one in store.artifacts()] == ["sentiment", "sentiment"]
        kinds = store.sql("SELECT DISTINCT kind FROM evaluation ORDER BY kind")["kind"].to_pylist()
    assert kinds == ["flipped", "random", "shuffled", "vector"]


def test_a_report_escapes_what_models_say(tmp_path: Path) -> None:
    import pyarrow as pa

    from workbench.cli import report

    said = "<script>alert(1)</script>"
    table = pa.table({said: [said, None], "x": [1.23456, 2.0]})
    path = report.write(tmp_path / "r.html", said, [report.Section(heading=said, table=table)])
    page = path.read_text()
    assert "<script" not in page and page.count("&lt;script&gt;") == 5
    assert "1.235" in page
    assert [one.name for one in tmp_path.iterdir()] == ["r.html"]
