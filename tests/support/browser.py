"""A real browser: Debian's Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, async_playwright, expect

PATIENCE = 20_000
"""Milliseconds for whatever a page is waited for; many times what it takes on a busy machine."""

expect.set_options(timeout=PATIENCE)


def chromium() -> str:
    """Where it is; a Chromium that is not installed is a failure, never a skip."""
    found = os.environ.get("AMQPJOBS_TEST_BROWSER") or shutil.which("chromium")
    if not found:
        pytest.fail(
            "Chromium is not installed. Run `deploy/ci/browser.sh` as root, or set"
            " AMQPJOBS_TEST_BROWSER.",
            pytrace=False,
        )
    return found


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """A browser of one test."""
    async with async_playwright() as playwright:
        # Chromium's own sandbox needs a user who is not root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=chromium(), args=options)
        try:
            yield browser
        finally:
            await browser.close()
