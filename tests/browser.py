"""``cliff explore`` in a real browser, for the tests and the benchmark of its page."""

import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def served(*arguments):
    """The process of ``cliff explore`` and the address that it told."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cliff", "explore", "--no-browser", "--port", "0", *arguments],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = process.stderr.readline()
        while "serving" not in line and line:  # "compiling"
            line = process.stderr.readline()
        yield process, re.search(r"http://localhost:\d+/", line).group()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@contextmanager
def opened(folder, *arguments):
    """The process and its page in a browser; skips without one, and fails if the page complains."""
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("bokeh")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    with served(*arguments) as (process, address), playwright.sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(
            folder, executable_path=chromium, args=FLAGS, viewport={"width": 1280, "height": 900}
        )
        browser.grant_permissions(["clipboard-read", "clipboard-write"])
        wrong, tab = [], browser.pages[0]
        tab.on(
            "console", lambda said: said.type in ("error", "warning") and wrong.append(said.text)
        )
        tab.on("pageerror", lambda error: wrong.append(error))
        tab.goto(address)
        tab.wait_for_selector("#transition-time:not(:empty)")
        yield process, tab
        assert wrong == []
        browser.close()


WATCH = """() => {
  window.done = {messages: 0, sent: 0, paints: 0, layouts: 0, renders: 0, answered: 0, painted: 0}
  const framed = new MessageChannel()  // its messages arrive when the frame is finished
  framed.port1.onmessage = () => { done.painted = performance.now() }
  const count = (thing, method, counted) => {
    const own = thing[method]
    if (own != null)
      thing[method] = function(...args) {
        counted()
        return own.apply(this, args)
      }
  }
  const watch = (view) => {
    count(view, "_actual_paint", () => { done.paints += 1; framed.port2.postMessage(0) })
    count(view, "compute_layout", () => { done.layouts += 1 })
    count(view, "rerender", () => { done.renders += 1 })
    for (const child of view.child_views ?? []) watch(child)
  }
  const [document] = Bokeh.documents
  Bokeh.index.roots.forEach(watch)
  count(document, "apply_json_patch", () => {
    done.messages += 1
    done.answered = performance.now()
  })
  count(WebSocket.prototype, "send", () => { done.sent += 1 })
  window.move = async (value) => {
    const [before, began] = [done.paints, performance.now()]
    document.get_model_by_name("start_xi").value = value
    while (done.paints < before + 4) await new Promise((go) => setTimeout(go, 1))
    await new Promise((go) => setTimeout(go, 200))  // what comes late is counted too
    return {answered: done.answered - began, painted: done.painted - began}
  }
}"""
"""Counts what the page does in `done`; `move` moves a slider, and returns the milliseconds until
the answer is there and until all figures are painted."""
