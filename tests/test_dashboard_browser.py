"""The dashboard in a real Chromium: it is driven as a person would, and the console stays clean."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dashboard import Worker, create_app, ids
from dashboard.serving import listen
from steering import SteeringVector
from store import Site
from workbench.session import Session

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
SECONDS = 20

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM.exists() and DRIVER.exists()), reason="needs Chromium and its driver"
    ),
]

ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1280,1000",
)  # fmt: skip


class Page:
    """A browser window on a served dashboard."""

    def __init__(self, driver: Any, root: str) -> None:
        self._driver, self._root = driver, root

    def open(self, path: str) -> None:
        """Go to an address of the dashboard."""
        self._driver.get(self._root + path)

    def reload(self) -> None:
        """Load the page anew."""
        self._driver.refresh()

    def back(self) -> None:
        """Press the back button."""
        self._driver.back()

    @property
    def address(self) -> str:
        """What stands in the address bar, without the root."""
        return self._driver.current_url.removeprefix(self._root)

    def all(self, css: str) -> list[Any]:
        """Find elements now."""
        return self._driver.find_elements("css selector", css)

    def texts(self, css: str) -> list[str]:
        """Read elements' texts in one go, so that none is stale."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
        return self._driver.execute_script(script, css)

    def until(self, claim: Callable[[], Any], what: str) -> Any:
        """Wait for something to hold."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self._driver, SECONDS)
        try:
            return wait.until(lambda _: claim())
        except TimeoutException:
            pytest.fail(f"waited for {what}; {self.address} shows {self.texts('body')}")

    def one(self, css: str) -> Any:
        """Wait for an element."""
        return self.until(lambda: next(iter(self.all(css)), None), css)

    def complaints(self) -> list[str]:
        """What the console holds against the page."""
        return [e["message"] for e in self._driver.get_log("browser") if e["level"] == "SEVERE"]


@contextlib.contextmanager
def _served(session: Session) -> Iterator[str]:
    with Worker(session) as worker:
        server = listen(create_app(session.store, worker), port=0)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@contextlib.contextmanager
def _driven(profile: Path) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def page(open_tiny: Callable[..., Session], tmp_path: Path) -> Iterator[Page]:
    """A dashboard with two runs and two vectors; afterwards the console must be clean."""
    session = open_tiny(store=True)
    session.capture(["one", "two words"], "resid_post.*", name="first", why="to look")
    session.capture(["three"], "embed,resid_post.0", name="second", tags=["odd"])
    directions = {Site("resid_post", i): torch.full((32,), (-1.0) ** i) for i in range(3)}
    for name, rule in (("pushed", "add"), ("turned", "icv")):
        own = session.backend.spec.fingerprint
        session.save(name, SteeringVector(directions=directions, rule=rule, fingerprint=own))
    with _served(session) as root, _driven(tmp_path / "profile") as driver:
        made = Page(driver, root)
        yield made
        assert made.complaints() == []


def _steer(strength: str, vector: str = "turned") -> str:
    return f"/steer?prompt=ab+cd&vector={vector}&strength={strength}&max_new_tokens=6&seed=1"


def _results(page: Page) -> list[str]:
    return page.until(lambda: page.texts(".columns .text"), "the three texts")


def test_a_run_is_chosen_and_the_address_brings_it_back(page: Page) -> None:
    page.open("/")
    page.until(lambda: len(page.all(".ag-row")) == 2, "two rows")
    page.until(lambda: page.texts(".detail .hint"), "the hint")
    (row,) = [one for one in page.all(".ag-row") if "first" in one.text]
    row.click()
    page.until(lambda: "first" in "".join(page.texts(".detail h2")), "the first run")
    page.one(".js-plotly-plot .scatterlayer .trace")
    assert page.address.startswith("/runs?run=")
    (row,) = [one for one in page.all(".ag-row") if "second" in one.text]
    row.click()
    page.until(lambda: "second" in "".join(page.texts(".detail h2")), "the second run")
    page.reload()
    page.until(lambda: "second" in "".join(page.texts(".detail h2")), "the second run again")
    page.until(lambda: "second" in "".join(page.texts(".ag-row-selected")), "its row selected")
    page.back()
    page.until(lambda: "first" in "".join(page.texts(".detail h2")), "the first run again")
    page.until(lambda: "first" in "".join(page.texts(".ag-row-selected")), "its row selected")


def test_a_vector_is_chosen_moved_by_keyboard_and_run(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    page.open("/steer")
    page.one(f"#{ids.STEER_PROMPT}").send_keys("ab cd")
    page.one(f"#{ids.STEER_VECTOR}").click()
    (option,) = page.until(
        lambda: [o for o in page.all(".dash-dropdown-option") if "turned" in o.text], "the options"
    )
    option.click()
    page.until(lambda: "(λ)" in page.texts(f"#{ids.STEER_UNIT}")[0], "the rule's unit")
    before = page.texts(f"#{ids.STEER_UNIT}")[0]
    page.one('[role="slider"]').send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: page.texts(f"#{ids.STEER_UNIT}")[0] != before, "another strength")
    page.one(f"#{ids.STEER_RUN}").click()
    default, steered, control = _results(page)
    assert all(text.startswith("ab cd") for text in (default, steered, control))
    assert "strength=0.25" in page.address and "vector=turned" in page.address
    assert len(page.all(".columns .tokens .token")) >= 2 * len("ab cd")
    first = page.texts(".columns")
    page.reload()
    _results(page)
    page.until(lambda: page.texts(".columns") == first, f"the same results as {first}")
    assert page.one(f"#{ids.STEER_PROMPT}").get_attribute("value") == "ab cd"


def test_strength_zero_is_shown_as_identical_and_back_returns_to_it(page: Page) -> None:
    page.open(_steer("0"))
    default, steered, control = _results(page)
    assert default == steered == control
    assert page.texts(".verdict") == [
        "Strength 0: nothing was changed, and the texts are identical."
    ]
    slider = page.one('[role="slider"]')
    assert slider.get_attribute("aria-valuenow") == "0"
    page.one(f"#{ids.STEER_LENGTH}").send_keys("0")
    page.one(f"#{ids.STEER_RUN}").click()
    page.until(lambda: "max_new_tokens=60" in page.address, "the new address")
    page.until(lambda: "exceed the context" in "".join(page.texts(".alert")), "the refusal")
    page.back()
    page.until(lambda: "identical" in "".join(page.texts(".verdict")), "the older result")
    assert page.one(f"#{ids.STEER_LENGTH}").get_attribute("value") == "6"


def test_an_address_beyond_the_sliders_range_widens_it(page: Page) -> None:
    page.open(_steer("-9", vector="pushed"))
    _results(page)
    slider = page.one('[role="slider"]')
    page.until(lambda: slider.get_attribute("aria-valuemin") == "-9", "a wider slider")
    assert slider.get_attribute("aria-valuenow") == "-9"
    assert page.texts(f"#{ids.STEER_UNIT}") == ["Strength: -9 (raw)"]


def test_an_unknown_vector_is_a_sentence_and_running_again_answers_again(page: Page) -> None:
    page.open(_steer("1", vector="nothing"))
    page.until(lambda: "No artifact 'nothing'" in "".join(page.texts(".alert")), "the refusal")
    assert not page.all("#banner .alert")
