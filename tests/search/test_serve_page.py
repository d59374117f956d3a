"""The page as a person uses it: `embedlake serve` in a process of its own, and a real browser."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from pipelines.lake import Lake
from tests.e2e.cli import embedlake
from tests.search.browser import started_browser
from tests.search.library import SERVING

_ROOT = Path(__file__).resolve().parents[2]
_MARMOT = "which animal warns the others of danger"


@dataclass(frozen=True)
class Server:
    """A running `embedlake serve`."""

    process: subprocess.Popen[str]
    folder: Path
    port: int

    def address(self, **parameters: object) -> str:
        """Of the page, in some state."""
        return f"http://127.0.0.1:{self.port}/?{urlencode(parameters)}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    yield from started_browser(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def server(browser: Chrome, library: Lake) -> Iterator[Server]:
    del browser  # without one there is nothing to serve
    assert library.config.dir is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["serve", "--lake", str(library.config.dir), "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *words],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # comes when it listens, or is empty when it ends
        assert f"http://127.0.0.1:{port} " in line, process.communicate()
        yield Server(process, library.config.dir, port)
    finally:
        process.kill()
        process.communicate()


class Page:
    """What a person sees and does."""

    def __init__(self, browser: Chrome, server: Server) -> None:
        self.browser, self.server = browser, server

    def open(self, **parameters: object) -> None:
        self.browser.get(self.server.address(**parameters))
        self.until(lambda: self.text("#lake"))

    def until(self, seen: Callable[[], object]) -> None:
        WebDriverWait(self.browser, 30).until(lambda _: seen())

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def texts(self, selector: str) -> list[str]:
        """What elements show, read at once: the page may be about to replace them."""
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)"
        found: list[str] = self.browser.execute_script(script, selector)
        return found

    def ask(self, query: str) -> None:
        self.one("#q").clear()
        self.one("#q").send_keys(query + Keys.ENTER)
        self.until(lambda: self.asked() == query and self.has_answer())

    def asked(self) -> str:
        """The query that the address has."""
        return parse_qs(urlsplit(self.browser.current_url).query).get("q", [""])[0]

    def choose(self, label: str, value: str) -> None:
        # By the address: two answers may read the same, to the hundredth of a second that they took.
        before = self.browser.current_url
        Select(self.one(f"#{label}")).select_by_value(value)
        self.until(lambda: self.browser.current_url != before and self.has_answer())

    def has_answer(self) -> bool:
        return not self.all(".view.busy") and (" hit" in self.text("#summary") or self.text("#fault") != "")

    def said(self) -> list[str]:
        """What the browser has had to complain of since it was asked last."""
        log: list[dict[str, str]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log]

    def hits(self) -> list[str]:
        return self.texts("#hits a")


@pytest.fixture
def page(browser: Chrome, server: Server) -> Page:
    made = Page(browser, server)
    made.said()  # what an earlier test left
    return made


def test_a_person_asks_reads_what_was_found_and_goes_back(page: Page) -> None:
    page.open()
    page.ask(_MARMOT)
    assert "10 hits" in page.text("#summary")
    first = page.hits()[0]
    assert "Notes on the Alps" in first
    assert "marmot whistles" in first
    assert not page.one("#panel").is_displayed()
    page.all("#hits a")[0].click()
    page.until(lambda: page.all("mark"))
    marked = page.one("mark")
    # Characters beyond UTF-16's first plane stand before it: the mark is exact nevertheless.
    assert marked.text.startswith("🏔🏔🏔 A marmot whistles")
    assert marked.text.endswith("runs to hide.")
    assert "The huts of the high valley" in page.text("#doc-text")
    assert page.text("#doc-title") == "Notes on the Alps"
    assert "passage 2 of 4" in page.text("#doc-place")
    page.browser.back()
    page.until(lambda: not page.one("#panel").is_displayed())
    assert page.hits()[0] == first
    page.browser.back()
    page.until(lambda: not page.hits())
    assert page.one("#q").get_attribute("value") == ""


def test_dimension_source_table_and_filter_are_chosen_on_the_page(page: Page) -> None:
    page.open()
    page.ask(_MARMOT)
    assert "at 384 dimensions" in page.text("#summary")
    page.choose("dim", "64")
    assert "at 64 dimensions" in page.text("#summary")
    page.choose("source", "manual")
    assert set(page.texts("#hits .source")) == {"manual"}
    assert not page.one("#where").is_displayed()
    page.choose("table", SERVING)
    assert f"{SERVING} at 128 dimensions" in page.text("#summary")
    assert len(set(page.texts("#hits .source"))) > 1
    page.one("#where").send_keys("lang = 'nl' and source = 'notes'" + Keys.ENTER)
    page.until(lambda: set(page.texts("#hits .source")) == {"notes"})
    assert page.one("#q").get_attribute("value") == _MARMOT


def test_an_empty_query_is_told_with_what_to_do(page: Page) -> None:
    page.open()
    page.one("#go").click()
    page.until(lambda: page.text("#fault"))
    assert page.text("#fault").lower() == "the query is empty\nsay what to look for"
    assert page.one("#fault").get_attribute("role") == "alert"
    page.ask(_MARMOT)
    assert not page.one("#fault").is_displayed()


def test_markup_of_a_document_is_shown_as_text(page: Page) -> None:
    page.open()
    page.ask("how to write a web page with tags")
    assert "<script>document.title = 'owned'</script>" in page.hits()[0]
    assert "<i>Markup</i>" in page.hits()[0]
    page.all("#hits a")[0].click()
    page.until(lambda: page.all("mark"))
    shown = page.text("#doc-text")
    assert "<b>bold</b>" in shown
    assert "<img src=x onerror=\"document.title = 'owned'\">" in shown
    assert page.text("#doc-title") == "<i>Markup</i>"
    assert page.all("main script, main img, #doc-text b, #doc-title i") == []
    assert "owned" not in page.browser.title


def test_a_shared_link_shows_what_was_seen(page: Page) -> None:
    page.open()
    page.ask(_MARMOT)
    page.choose("dim", "128")
    page.all("#hits a")[0].click()
    page.until(lambda: page.all("mark"))
    link, marked, hits = page.browser.current_url, page.text("mark"), page.hits()
    page.open()
    page.browser.get(link)
    page.until(lambda: page.all("mark"))
    assert (page.text("mark"), page.hits()) == (marked, hits)
    assert Select(page.one("#dim")).first_selected_option.text == "128"


def test_the_keyboard_suffices(page: Page) -> None:
    page.open()
    page.ask(_MARMOT)
    first = page.all("#hits a")[0]
    first.send_keys(Keys.ENTER)
    page.until(lambda: page.all("mark") and page.browser.switch_to.active_element == page.one("#panel"))
    page.one("#panel").send_keys(Keys.ESCAPE)
    page.until(lambda: not page.one("#panel").is_displayed())
    page.until(lambda: page.browser.switch_to.active_element == page.all("#hits a")[0])
    fields = [one for one in page.all("input, select, button") if one.is_displayed()]
    assert len(fields) == 8
    assert all(one.accessible_name for one in fields)


def test_a_document_that_is_gone_is_told(page: Page) -> None:
    page.open(q=_MARMOT, doc="nobody", doc_source="nature", chunk="none")
    page.until(lambda: "no text of a document 'nobody'" in page.text("#fault"))
    assert page.hits()


def test_the_page_fits_a_telephone_and_asks_no_other_server(page: Page) -> None:
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.open(q=_MARMOT, table=SERVING)
        page.until(page.has_answer)
        page.all("#hits a")[0].click()
        page.until(lambda: page.all("mark"))
        assert page.browser.execute_script("return document.documentElement.scrollWidth") == 400
        assert page.one("#panel").size == {"width": 400, "height": 800}
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    asked = page.browser.execute_script(
        "return performance.getEntriesByType('resource').map(one => one.name)"
    )
    assert len(asked) >= 4
    assert all(name.startswith(page.server.address().rstrip("?")) for name in asked)
    assert page.said() == []  # nothing that the policy refused either


def test_a_taken_port_is_told_with_a_way_out(server: Server) -> None:
    result = embedlake("serve", "--lake", str(server.folder), "--port", str(server.port))
    assert result.code == 1
    assert f"the port {server.port} of 127.0.0.1 is taken. Choose another: --port N" in result.err


def test_ctrl_c_ends_it_as_it_ends_any_job(server: Server) -> None:  # the last one: it ends the server
    server.process.send_signal(signal.SIGINT)
    _, told = server.process.communicate(timeout=60)
    assert server.process.returncode == 130
    assert "interrupted" in told
    assert "Traceback" not in told
