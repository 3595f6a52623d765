# SPDX-License-Identifier: Apache-2.0
"""The gallery in a real Airflow and a real browser: its pages and its permissions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from dev.testkit.browser import find_browser, log_in, open_browser, open_tab, play, wait_in
from dev.testkit.gallery import DAGS, PROMPT, GalleryServer, gallery_server

VIEWER, OTHER = DAGS
CLIPS = 40
ARCHIVED = f"{0:064x}"  # of the viewer's Dag
HIDDEN = f"{7:064x}"  # archived, of the other Dag
ROUTES = (
    *("/", "/spend", "/static/gallery.js", "/static/gallery.css", "/static/clip.svg", "/api/clips", "/api/spend"),
    *(f"/dags/{OTHER}", f"/dags/{OTHER}/runs/r+1/x", f"/dags/{OTHER}/tasks/t", f"/dags/{OTHER}/runs/r/tasks/t/0"),
    f"/dags/{OTHER}/runs/r/tasks/t/0/sheet",
    *(f"/api/clips?dag_id={OTHER}", f"/api/spend?dag_id={OTHER}", f"/api/clips/{HIDDEN}"),
    *(f"/media/{HIDDEN}/video", f"/media/{HIDDEN}/source"),
)
OF_ANOTHER_DAG = tuple(route for route in ROUTES if OTHER in route or HIDDEN in route)

needs_browser = pytest.mark.skipif(find_browser() is None, reason="needs Chromium and chromedriver")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GalleryServer]:
    folder = tmp_path_factory.mktemp("gallery") / "server"
    with gallery_server(folder, clips=CLIPS, now=time.time(), viewers=[VIEWER]) as running:
        yield running


def get(server: GalleryServer, route: str, user: str | None) -> requests.Response:
    cookies = {"_token": server.token(user)} if user else {}
    return requests.get(f"{server.url}{route}", cookies=cookies, allow_redirects=False, timeout=30)


@pytest.mark.parametrize("route", ROUTES)
def test_an_anonymous_caller_gets_401_on_every_route(server: GalleryServer, route: str) -> None:
    assert get(server, route, None).status_code == 401


def test_every_route_of_the_application_is_among_those_that_are_tested() -> None:
    from airflow_provider_wan.plugins.gallery.app import create_app

    paths = {route.path for route in create_app().routes}  # type: ignore[attr-defined]
    assert paths == {
        *("/", "/spend", "/static/{name}", "/api/clips", "/api/spend", "/api/clips/{clip_id}"),
        *("/dags/{dag_id}", "/dags/{dag_id}/tasks/{task_id}", "/dags/{dag_id}/runs/{run_id:path}"),
        "/dags/{dag_id}/runs/{run_id:path}/tasks/{task_id}/{map_index}",
        "/dags/{dag_id}/runs/{run_id:path}/tasks/{task_id}/{map_index}/sheet",
        *("/media/{clip_id}/video", "/media/{clip_id}/source"),
    }


@pytest.mark.parametrize("route", OF_ANOTHER_DAG)
def test_a_viewer_of_one_dag_gets_403_for_another(server: GalleryServer, route: str) -> None:
    assert get(server, route, VIEWER).status_code == 403


def test_a_viewer_of_one_dag_sees_its_clips_and_no_others(server: GalleryServer) -> None:
    page = get(server, "/api/clips?size=96", VIEWER).json()
    assert {clip["dag_id"] for clip in page["clips"]} == {VIEWER}
    assert page["totals"]["clips"] == CLIPS // 2
    assert [row["name"] for row in get(server, "/api/spend", VIEWER).json()["by_dag"]] == [VIEWER]
    assert get(server, f"/media/{ARCHIVED}/video", VIEWER).status_code == 307


def test_a_clip_is_served_from_the_bucket_by_a_url_of_minutes(server: GalleryServer) -> None:
    redirect = get(server, f"/media/{ARCHIVED}/video", "admin")
    assert redirect.headers["Cache-Control"] == "no-store"
    assert "X-Amz-Expires=300" in redirect.headers["Location"]
    video = requests.get(redirect.headers["Location"], headers={"Range": "bytes=0-99"}, timeout=30)
    assert (video.status_code, video.headers["Content-Type"]) == (206, "video/mp4")


def test_a_list_of_clips_holds_no_prompt_and_no_signature(server: GalleryServer) -> None:
    text = get(server, "/api/clips?size=96", "admin").text
    assert PROMPT not in text
    assert "X-Amz" not in text
    assert get(server, f"/api/clips/{ARCHIVED}", "admin").json()["parameters"]["prompt"] == PROMPT


@needs_browser
def test_a_clip_plays_in_the_dags_tab_of_airflows_ui(server: GalleryServer, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    with open_browser(tmp_path / "profile") as browser:
        log_in(browser, server.home.url, server.token("admin"))
        open_tab(browser, f"{server.home.url}/dags/{VIEWER}/plugin/wan-dag")
        play(browser, ARCHIVED)
        assert PROMPT in browser.find_element(By.ID, "detail").text


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_gallery_follows_airflows_theme(server: GalleryServer, tmp_path: Path, theme: str) -> None:
    with open_browser(tmp_path / "profile") as browser:
        log_in(browser, server.home.url, server.token("admin"))
        browser.execute_script("localStorage.setItem('theme', arguments[0])", theme)
        open_tab(browser, f"{server.home.url}/plugin/wan-clips")
        dark = browser.execute_script("return document.documentElement.classList.contains('dark')")
        assert dark is (theme == "dark")


@needs_browser
def test_states_search_and_pages_narrow_what_is_shown(server: GalleryServer, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    def states() -> set[str]:
        script = "return [...document.querySelectorAll('.card')].map(card => card.dataset.state)"
        return set(browser.execute_script(script))

    with open_browser(tmp_path / "profile") as browser:
        log_in(browser, server.home.url, server.token("admin"))
        browser.get(f"{server.url}/")
        wait_in(browser, 30, lambda: len(states()) > 2, "no clips")
        browser.find_element(By.XPATH, "//button[contains(., 'failed')]").click()
        wait_in(browser, 30, lambda: states() == {"failed"}, "no filter by state")
        browser.get(f"{server.url}/?again#text=no+such+clip")
        main = "return document.getElementById('main').textContent"
        wait_in(browser, 30, lambda: "No clip matches" in browser.execute_script(main), "no empty note")
        assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
