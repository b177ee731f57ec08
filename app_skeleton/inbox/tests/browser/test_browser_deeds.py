"""What people come to do, by clicks and keys."""

import hashlib
import hmac
import http.client
import json
import re
import secrets
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from inbox.messages.models import Message
from inbox.models import db


def deliver(site, title):
    """Send a webhook as GitHub does; return the message's id."""
    body = json.dumps({"action": "opened", "issue": {"title": title}, "nonce": secrets.token_hex()}).encode()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "issues",
        "X-GitHub-Delivery": secrets.token_hex(16),
        "X-Hub-Signature-256": f"sha256={hmac.new(site.secret.encode(), body, hashlib.sha256).hexdigest()}",
    }
    connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=10)
    connection.request("POST", "/hooks/github", body, headers)
    answer = connection.getresponse()
    found = json.load(answer)
    connection.close()
    assert answer.status == 202, found
    return found["id"]


def test_sign_in_says_what_is_wrong_then_leads_to_where_one_was_going(site, visit):
    page = visit(site, "/files/reports", role=None)
    assert page.title() == "Sign in · Inbox"
    for name, kind in (("E-mail", "username"), ("Password", "current-password")):
        assert page.get_by_label(name).get_attribute("autocomplete") == kind
    page.get_by_label("E-mail").fill("viewer@example.org")
    page.get_by_label("Password").fill("a password of somebody else's")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("The address or the password is wrong.").wait_for()
    assert page.title().startswith("Error: ")
    assert page.get_by_label("E-mail").input_value() == "viewer@example.org"
    assert page.get_by_label("Password").input_value() == ""
    page.get_by_label("Password").fill(site.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/files/reports")
    assert (
        page.get_by_role("navigation", name="Main").locator("[aria-current=page]").inner_text() == "Reports"
    )
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("status").get_by_text("You are signed out.").wait_for()
    page.goto("/messages")
    assert "/auth/sign-in" in page.url


def test_keyboard_alone_skips_to_the_content_and_shows_where_it_is(site, visit):
    page = visit(site, "/messages")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    assert page.get_by_text("Skip to content").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    focused = (
        "const style = getComputedStyle(document.activeElement); style.outlineStyle + style.outlineWidth"
    )
    assert page.evaluate(focused) == "solid3px"


def test_filters_lead_to_a_message_and_a_replay_does_it_again(site, visit):
    title = f"found by its title {secrets.token_hex(8)}"
    message_id = deliver(site, title)
    page = visit(site, "/messages")
    page.get_by_text("More filters").click()
    page.get_by_label("Source").select_option("github")
    page.get_by_label("Search").fill(title)
    page.keyboard.press("Enter")
    page.get_by_role("link", name=title).click()
    page.wait_for_url(f"**/messages/{message_id}")
    assert page.get_by_role("heading", level=1).inner_text() == f"issues opened {title}"
    assert page.get_by_role("table").get_by_role("row").count() == 2
    page.get_by_role("button", name="Replay").click()
    page.get_by_role("status").get_by_text("is being processed again").wait_for()
    assert page.get_by_role("table").get_by_role("row").count() == 3
    with page.expect_download() as download:
        page.get_by_role("link", name="Download it as sent").click()
    assert download.value.suggested_filename == f"message-{message_id}.txt"
    assert title in download.value.path().read_text()


def test_replaying_all_that_was_given_up_asks_first(site, visit):
    site.add(_given_up)
    page = visit(site, "/messages")
    given_up = page.get_by_role("link", name=re.compile("^Given up"))
    count = int(given_up.inner_text().split()[-1].replace(",", ""))
    given_up.click()
    page.get_by_role("link", name="Replay all that was given up").click()
    page.get_by_role("link", name="Leave them as they are").click()
    assert given_up.inner_text().split()[-1] == str(count)
    page.go_back()
    page.get_by_role("button", name=f"Replay {count} messages").click()
    page.get_by_role("status").get_by_text(f"{count} messages are being processed again.").wait_for()
    assert given_up.inner_text().split()[-1] == "0"
    site.add(_given_up)


def _given_up():
    for _ in range(2):
        db.session.add(Message(source="github", delivery_id=secrets.token_hex(16), body="{}", status="dead"))
    return {}


def test_what_was_exported_can_be_imported_with_more_in_it(site, visit, tmp_path):
    page = visit(site, "/messages?status=done&source=stripe")
    listed = page.get_by_role("row").count() - 1
    with page.expect_download() as download:
        page.get_by_role("link", name="Export these as CSV").click()
    exported = tmp_path / download.value.suggested_filename
    download.value.save_as(exported)
    assert re.fullmatch(r"messages-\d{8}T\d{6}Z\.csv", exported.name)
    with exported.open("a") as file:
        file.write("github,1,push,2026-09-01T12:30:00Z,no JSON\n")
        file.write(f"elsewhere,{secrets.token_hex(16)},push,2026-09-01T12:30:00Z,{{}}\n")
    page.get_by_role("link", name="Imports").click()
    page.get_by_role("link", name="Import a file").click()
    page.get_by_label("CSV file").set_input_files(exported)
    page.get_by_role("button", name="Import").click()
    page.get_by_role("status").get_by_text("The file is here").wait_for()
    told = {
        name: page.locator(f"dt:text-is('{name}') + dd").inner_text()
        for name in ("Imported", "Duplicates", "Refused")
    }
    assert told == {"Imported": "1", "Duplicates": str(listed), "Refused": "1"}
    assert page.get_by_role("cell", name="JSON").count() == 1
    # Of a source that is set up nowhere: filters find it all the same.
    page.goto("/messages?source=elsewhere")
    assert page.get_by_label("Source").input_value() == "elsewhere"
    assert page.get_by_role("row").count() == 2


def test_large_file_takes_no_memory_and_is_refused_with_the_reason(site, visit, tmp_path):
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        for _ in range(64):
            file.write(b"no columns\n" * (2**20 // 11))
    page = visit(site, "/files/imports/new")
    before = most_memory(site.server)
    page.get_by_label("CSV file").set_input_files(large)
    page.get_by_role("button", name="Import").click()
    page.get_by_role("heading", name="large.csv").wait_for()
    assert page.locator("p.problems").inner_text().startswith("The first line")
    assert most_memory(site.server) - before < 20_000


def most_memory(server):
    """Return the most memory a worker has had, in KiB."""
    (worker,) = server.worker_pids()
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{worker}/status").read_text())[1])


def test_report_is_downloaded_as_pdf(site, visit):
    page = visit(site, "/files/reports", role="viewer")
    with page.expect_download() as download:
        page.get_by_role("link", name="(PDF)").first.click()
    assert re.fullmatch(r"inbox-\d{4}-\d\d-\d\d\.pdf", download.value.suggested_filename)
    assert download.value.path().read_bytes().startswith(b"%PDF-")


def test_page_about_a_running_import_refreshes_until_it_is_told_not_to(site, visit):
    page = visit(site, f"/files/imports/{site.ids['import-reading']}", role="viewer")
    refresh = page.locator("meta[http-equiv=refresh]")
    assert refresh.get_attribute("content") == "5"
    page.get_by_role("link", name="Stop refreshing").click()
    assert refresh.count() == 0
    page.goto(f"/files/imports/{site.ids['import-done']}")
    assert refresh.count() == 0


def test_commands_on_the_page_before_the_first_message_send_one(empty_site, visit):
    site = empty_site
    page = visit(site, "/messages")
    assert site.secret not in page.content()
    regions = page.get_by_role("region", name="Commands for").all()
    commands = [region.inner_text() for region in regions]
    assert len(commands) == 2
    for command in commands:
        answer = _run(command, f"{site.secret}\n")
        assert json.loads(answer)["status"] == "accepted"
    page.reload()
    assert page.get_by_role("row").count() == 1 + 2


def test_commands_of_the_documentation_get_a_token_and_use_it(site, visit):
    page = visit(site, "/api/docs", role=None)
    command = page.get_by_role("region", name="Commands to get a token").inner_text()
    answer = _run(command, f"viewer@example.org\n{site.password}\n")
    assert "status" not in json.loads(answer), answer


def _run(command, typed):
    """Run what a page tells people to type; return what the last program printed."""
    done = subprocess.run(["bash", "-c", command], input=typed, capture_output=True, text=True, timeout=20)
    assert done.stdout, done.stderr
    return done.stdout
