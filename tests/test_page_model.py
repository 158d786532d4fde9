"""The page in a real browser, talking with the managed local model."""
import os

import pytest
from playwright.sync_api import sync_playwright

from kith import Server
from test_local_model import SHORT, pytestmark, settings  # noqa: F401

CHROMIUM = os.environ.get("KITH_CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
ANSWER_MS = 150_000

# Notes each length of the answer's text as it grows: a stream shows several.
WATCH = """() => {
  window.lengths = [];
  new MutationObserver(() => {
    const texts = document.querySelectorAll('.turn:not(.you) .text');
    const last = texts[texts.length - 1];
    const waits = !last || last.querySelector('.waiting');
    const length = waits ? 0 : last.innerText.trim().length;
    if (length > 0 && length !== window.lengths.at(-1)) window.lengths.push(length);
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


@pytest.fixture
def browser():
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def talk(browser, server, question):
    """Sends a question in the page and answers (text, the lengths it was seen with)."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(server.base + "/")
    page.evaluate(WATCH)
    page.locator("textarea").fill(question)
    page.locator("textarea").press("Enter")
    page.locator('.turn.last[data-status="complete"]').wait_for(timeout=ANSWER_MS)
    text = page.locator(".turn:not(.you) .text").last.inner_text()
    lengths = page.evaluate("window.lengths")
    page.reload()
    page.locator('.turn.last[data-status="complete"]').wait_for()
    assert page.locator(".turn:not(.you) .text").last.inner_text() == text
    assert faults == []
    return text, lengths


@pytest.mark.web
def test_the_small_model_answers_in_the_page(browser, tmp_path):
    server = Server(tmp_path / "data", [], settings(**SHORT))
    try:
        text, lengths = talk(browser, server, "Tell me about the sea in one sentence.")
    finally:
        server.close()
    assert len(text.split()) >= 5, text
    assert len(lengths) >= 3 and lengths[0] < lengths[-1], "the answer did not stream"


@pytest.mark.chat_model
def test_the_default_model_answers_in_the_page(browser, tmp_path):
    patient = {"local.threads": 0, "model.first_token": "120s", "model.idle": "120s"}
    server = Server(tmp_path / "data", [], settings("chat", **patient))
    try:
        text, lengths = talk(browser, server, "Hi, I am Ada. What can you help me with?")
    finally:
        server.close()
    print(text)
    assert len(text.split()) >= 5, text
    assert len(lengths) >= 3 and lengths[0] < lengths[-1], "the answer did not stream"
