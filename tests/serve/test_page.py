"""The page in a real browser, served by the service on a tiny run."""

import base64
import json
import re
import shutil
import threading
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import TimeoutError as PageTimeoutError
from playwright.sync_api import expect, sync_playwright

from kryptonite.fusion.verbal import DEGREES
from kryptonite.inference.verdict import REASONS
from kryptonite.runs.load import load
from kryptonite.serve.about import describe
from kryptonite.serve.app import create_app
from kryptonite.serve.errors import CODES
from kryptonite.serve.limits import Limits
from kryptonite.serve.server import listen
from tests.tiny import write_run

PAGE = Path(__file__).parents[2] / "kryptonite/serve/page"
STRINGS = json.loads((PAGE / "strings.json").read_text(encoding="utf-8"))
LANGUAGES = {"en": "en-US", "ru": "ru-RU"}
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
LIMITS = Limits(photo_megabytes=0.5)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium here; docs/contributing.md says how to install it")
    with sync_playwright() as playwright:
        # Without a sandbox, since root cannot have one.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory, faces):
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{number}.png" for number in range(3)]
    for path, face in zip(paths, faces, strict=False):
        Image.fromarray(face).save(path)
    return paths


@pytest.fixture(scope="module")
def black(photos):
    path = photos[0].with_name("black.png")
    Image.new("RGB", (160, 160)).save(path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, photos):
    """A run with untrained networks that accepts every pair, but at fmr=0.01 none, and examples."""
    run = write_run(tmp_path_factory.mktemp("page") / "run")
    stored = json.loads((run / "fusion.json").read_text())
    for fuser in stored["fusers"].values():
        fuser |= {"threshold": -50, "at_fmr": {"fmr=0.01": 50}}
    for fuser in stored["references"].values():
        fuser |= {"threshold": -50}
    (run / "fusion.json").write_text(json.dumps(stored))
    write_examples(run / "data-root", photos)
    return run


def write_examples(root, photos):
    """A demo's test pairs, one of each kind."""
    (root / "demo.json").parent.mkdir()
    (root / "demo.json").write_text("{}")
    columns = "pair_id,label_a,label_b,synthetic_a,synthetic_b,kind,label,species\n"
    rows = ["1,7,7,0,1,synthetic,0,face_swap", "2,7,8,0,0,different,0,", "3,7,7,0,0,same,1,"]
    (root / "gt.csv").write_text(columns + "\n".join(f"0000000{row}" for row in rows) + "\n")
    for row in rows:
        folder = root / f"data/test_public/images/0000000{row[0]}"
        folder.mkdir(parents=True)
        for number in (0, 1):
            with Image.open(photos[number]) as photo:
                photo.save(folder / f"{number}.jpg")


@pytest.fixture(scope="module")
def serve(run, tmp_path_factory):
    """Starts the service, with a key or without, and gives its address."""
    pipeline = load(run, cache=tmp_path_factory.mktemp("cache"), device="cpu")
    with ExitStack() as stack:

        def start(key=""):
            app = create_app(pipeline, describe(run, pipeline, LIMITS), LIMITS, key)
            listener = stack.enter_context(listen("127.0.0.1", 0))
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
            thread = threading.Thread(target=server.run, args=([listener],))
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start


@pytest.fixture(scope="module")
def address(serve):
    return serve()


@pytest.fixture(scope="module")
def answer(address, photos):
    """The service's answer on two photos, as it goes to the page."""
    photo_a, photo_b = (base64.b64encode(path.read_bytes()).decode() for path in photos[:2])
    question = {"photo_a": photo_a, "photo_b": photo_b, "crops": True, "explain": True}
    request = urllib.request.Request(
        f"{address}/v1/verify",
        json.dumps(question).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


class Visit:
    """A tab, and what went wrong in it."""

    def __init__(self, browser, address, examples=True, **options):
        usual = {"locale": "en-US", "reduced_motion": "reduce"}  # scrolling takes no time then
        self.context = browser.new_context(**{**usual, **options})
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(20_000)
        self.address, self.complaints, self.requests = address, [], []
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(self.address)
        if examples:  # they come last
            self.tab.locator("#example-list button").first.wait_for()

    def choose(self, photo_a, photo_b):
        self.tab.set_input_files("#photo-a", photo_a)
        self.tab.set_input_files("#photo-b", photo_b)

    def compare(self, photo_a, photo_b):
        """Chooses two photos and waits for the answer."""
        self.choose(photo_a, photo_b)
        self.tab.click("#submit")
        self.tab.locator("#answer-body").wait_for()

    def add(self, *photos):
        """Adds further photos of the person on the second one."""
        self.tab.set_input_files("#more-input", photos)

    def see(self, selector):
        """The text of an element, as it is seen."""
        return self.tab.locator(selector).inner_text()

    def answer_with(self, answer, **changes):
        """Answers comparisons in place of the service."""
        self.tab.unroute_all()
        self.tab.route("**/v1/verify*", lambda route: route.fulfill(json={**answer, **changes}))

    def refuse_with(self, status, code, headers=None):
        """Refuses comparisons as the service does, in its place."""
        problem = {"code": code, "message": f"the sentence about {code}"}
        self.tab.unroute_all()
        self.tab.route(
            "**/v1/verify*",
            lambda route: route.fulfill(status=status, json=problem, headers=headers or {}),
        )

    def focused(self):
        return self.tab.evaluate("document.activeElement.id")

    def is_too_wide(self):
        return self.tab.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )

    def violations(self):
        """What axe-core finds, by rule, with the elements."""
        found = Axe().run(self.tab).response["violations"]
        return {rule["id"]: [node["html"] for node in rule["nodes"]] for rule in found}


@pytest.fixture
def visit(browser, address):
    """Opens the page; checks at the end that no tab complained, but of answers it was given."""
    visits = []

    def start(**options):
        visits.append(Visit(browser, options.pop("address", address), **options))
        return visits[-1]

    yield start
    for each in visits:
        refused = "Failed to load resource"
        assert [line for line in each.complaints if not line.startswith(refused)] == []
        each.context.close()


def test_page_shows_the_answer_when_two_photos_are_uploaded(visit, photos, address):
    page = visit()
    page.compare(photos[0], photos[1])
    assert page.see("#verdict-title") == "Accepted"
    assert page.see("#verdict-why") == STRINGS["en"]["why.accepted"]
    assert re.fullmatch(
        r"The score −?\d+\.\d\d reaches the threshold −50\.00\.", page.see("#score-text")
    )
    assert page.tab.locator("#scale circle").count() == 1
    assert page.tab.locator(".overlay rect.line").count() == 2
    assert page.tab.locator(".overlay path.line").count() == 10
    crops = page.tab.locator("img.crop")
    assert crops.evaluate_all("all => all.map(each => each.naturalWidth)") == [32, 32]
    assert "cosine similarity" in page.see("#parts")
    value, direction = page.tab.locator("#parts tr").first.locator("td").all_inner_texts()
    assert re.fullmatch(r"[+−]\d+\.\d\d", value)
    assert direction == ("for" if value.startswith("+") else "against")
    assert re.search(r"Face size\s+\d+ pixels: ", page.see("#facts"))
    assert "160 × 160 pixels" in page.see("#facts")
    assert re.fullmatch(r"Computed in \d+\.\d\d s\.", page.see("#time"))
    assert page.see("#status").startswith("Accepted. The score")
    assert page.focused() == "answer-title"
    assert page.complaints == []
    assert {
        url for url in page.requests if not url.startswith((address, "blob:", "data:"))
    } == set()


@pytest.mark.parametrize("box", [(40, 30, 120, 150), (-20, 30, 200, 150)])
def test_page_draws_the_face_where_the_service_found_it(visit, photos, answer, box):
    page = visit()
    first, second = answer["photos"]
    page.answer_with(answer, photos=[{**first, "box": box}, second])
    page.compare(photos[0], photos[1])
    drawn = page.tab.locator("#panel-a .overlay rect.line").bounding_box()
    image = page.tab.locator("#panel-a img").bounding_box()
    scale = image["width"] / first["width"]
    left, right = max(box[0], 0), min(box[2], 160)
    assert drawn["x"] - image["x"] == pytest.approx(left * scale, abs=3)
    assert drawn["width"] == pytest.approx((right - left) * scale, abs=6)
    assert drawn["y"] - image["y"] == pytest.approx(box[1] * scale, abs=3)


def test_page_compares_again_when_another_threshold_is_chosen(visit, photos):
    page = visit()
    page.compare(photos[0], photos[1])
    page.tab.focus("#threshold")
    page.tab.select_option("#threshold", "fmr=0.01")
    expect(page.tab.locator("#verdict-title")).to_contain_text("Refused: ")
    assert "below the threshold 50.00" in page.see("#score-text")
    assert page.focused() == "threshold"
    assert page.tab.locator("#threshold option").all_inner_texts() == [
        "Stored with the run (−50.00)",
        "FMR 1% (50.00)",
    ]


@pytest.mark.parametrize(
    ("code", "order"),
    [("no_face_in_photo_a", "nf"), ("no_face_in_photo_b", "fn"), ("no_face_in_either_photo", "nn")],
)
def test_page_says_which_photo_lacks_a_face(visit, photos, black, code, order):
    page = visit()
    page.compare(*(photos[0] if letter == "f" else black for letter in order))
    assert page.see("#verdict-title") == STRINGS["en"][f"code.{code}"]
    assert page.see("#score-text").startswith("There is no score")
    assert page.tab.locator("#scale circle").count() == 0
    assert page.tab.locator(".overlay rect.line").count() == order.count("f")
    assert page.tab.locator("img.crop").count() == order.count("f")
    assert page.see("#facts").count("not found") == order.count("n")
    assert page.see("#parts-none") == STRINGS["en"]["parts.no_face"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_says_every_code_in_words(visit, photos, answer, language):
    page = visit(locale=LANGUAGES[language])
    page.choose(photos[0], photos[1])
    for code in REASONS:
        page.answer_with(answer, code=code, accepted=code == "accepted")
        page.tab.click("#submit")
        expect(page.tab.locator("#verdict-title")).to_have_text(STRINGS[language][f"code.{code}"])
        expect(page.tab.locator("#verdict-why")).to_have_text(STRINGS[language][f"why.{code}"])
        tone = "accepted" if code == "accepted" else "refused"
        assert page.tab.get_attribute("#verdict", "class") == f"verdict {tone}"


def test_page_shows_the_reason_when_the_code_is_new(visit, photos, answer):
    page = visit()
    page.answer_with(answer, code="of_a_later_version", reason="refused: a later version knows why")
    page.compare(photos[0], photos[1])
    assert page.see("#verdict-title") == "refused: a later version knows why"


def test_page_omits_parts_when_the_fusion_has_none(visit, photos, answer):
    page = visit()
    page.answer_with(answer, parts=None)
    page.compare(photos[0], photos[1])
    assert page.see("#parts-none") == STRINGS["en"]["parts.none"]
    assert not page.tab.is_visible("#parts-body")


@pytest.mark.parametrize("value", [-8.125, 0.001, 3.2])
def test_page_draws_parts_to_their_side_with_their_sign(visit, photos, answer, value):
    page = visit()
    parts = {"recognition": value, "detector": 4, "similarity": 0, "differential_detector": 0}
    page.answer_with(answer, parts=parts, comparison=0)
    page.compare(photos[0], photos[1])
    rows = page.tab.locator("#parts tr")
    assert rows.count() == 3  # the similarity says nothing here
    assert "not in this run" in rows.nth(2).inner_text()
    shown, direction = {
        -8.125: ("−8.13", "against"),
        0.001: ("0.00", "neither way"),
        3.2: ("+3.20", "for"),
    }[value]
    assert rows.nth(0).locator("td").all_inner_texts() == [shown, direction]
    bar = rows.nth(0).locator("rect").nth(1)
    end = 10 if value < -5 else 5
    assert float(bar.get_attribute("width")[:-1]) == pytest.approx(50 * abs(value) / end)
    assert float(bar.get_attribute("x")[:-1]) == pytest.approx(50 + min(value, 0) * 50 / end)


# The explanation


def explained(**changes):
    """What the service explains of a pair refused as a forgery."""
    usual = {"photo": "photo_b", "branch": "detector", "llr": -4.45, "degree": "moderate"}
    return {**usual, "support": "in English", "scale": "whose", **changes}


def test_page_shows_the_explanation_of_the_service(visit, photos):
    page = visit()
    page.compare(photos[0], photos[1])  # accepted, by networks that know nothing
    assert re.search(
        r"(support|No support) .+\(likelihood ratio [\d./,]+\)\.( |$)", page.see("#support")
    )
    assert "ENFSI Guideline" in page.see("#support-scale")
    assert page.tab.locator("#lowered").inner_text() == ""
    assert page.tab.locator("#parts .lowered").count() == 0
    page.tab.select_option("#threshold", "fmr=0.01")
    expect(page.tab.locator("#lowered")).to_contain_text("What lowered the score most")
    assert page.tab.locator("#parts .lowered").count() == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_words_the_likelihood_ratio_and_names_branch_and_photo(
    visit, photos, answer, language
):
    page = visit(locale=LANGUAGES[language])
    words = STRINGS[language]
    page.choose(photos[0], photos[1])
    for number, degree in enumerate(DEGREES):
        for llr, side in ((4.45, "genuine"), (-4.45, "otherwise")):
            branch, photo = list(answer["parts"])[number % 4], "ab"[number % 2]
            told = explained(llr=llr, degree=degree, branch=branch, photo=f"photo_{photo}")
            page.answer_with(answer, explanation=told, accepted=number < 3)
            page.tab.click("#submit")
            key = "weight.neither" if degree == "none" else f"weight.{side}"
            ratio = "86" if llr > 0 else "1/86"
            expected = words[key].format(degree=words[f"degree.{degree}"], ratio=ratio)
            if (llr > 0) != (number < 3):
                expected += " " + words[f"weight.asks_{'more' if llr > 0 else 'less'}"]
            expect(page.tab.locator("#support")).to_have_text(expected)
            assert page.see("#support-scale") == words["weight.scale"]
            assert page.see("#lowered") == " ".join(
                (
                    words["weight.branch"].format(branch=words[f"branch.{branch}"]),
                    words["weight.photo"].format(photo=words[f"photo.{photo}"]),
                )
            )


def test_page_shows_only_what_the_service_explains(visit, photos, answer):
    page = visit()
    page.choose(photos[0], photos[1])
    nothing = dict.fromkeys(("photo", "branch", "llr", "degree", "support"))
    for explanation, weight, support, sheet in (
        (None, False, False, False),
        (explained(**nothing), False, False, True),
        (explained(llr=None, degree=None, support=None), True, False, True),
    ):
        page.answer_with(answer, explanation=explanation)
        page.tab.click("#submit")
        page.tab.locator("#answer-body").wait_for()
        assert page.tab.is_visible("#weight") is weight
        assert page.tab.is_visible("#support-scale") is support
        assert page.tab.is_visible("#sheet-save") is sheet
        page.tab.click("#panel-b button")
        page.tab.set_input_files("#photo-b", photos[1])


def test_page_saves_the_sheet_of_the_answer(visit, photos, tmp_path):
    page = visit()
    page.tab.select_option("#threshold", "fmr=0.01")
    page.compare(photos[0], photos[1])
    with page.tab.expect_download() as saved:
        page.tab.click("#sheet-save")
    assert saved.value.suggested_filename == "explanation.html"
    saved.value.save_as(tmp_path / "sheet.html")
    sheet = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert "threshold 50.00\n(fmr=0.01)" in sheet and sheet.count("data:image/png") == 2
    expect(page.tab.locator("#sheet-status")).to_have_text(STRINGS["en"]["sheet.done"])
    assert page.see("#status") == STRINGS["en"]["sheet.done"]
    problem = {"code": "busy", "message": ""}
    page.tab.route("**/v1/explain", lambda route: route.fulfill(status=503, json=problem))
    page.tab.click("#sheet-save")
    expect(page.tab.locator("#sheet-status")).to_have_text(STRINGS["en"]["error.busy"])
    assert page.tab.is_visible("#answer-body")


# Several photos of the person


def test_page_compares_with_several_photos(visit, photos, black):
    page = visit()
    page.choose(photos[0], photos[1])
    page.add(photos[2], black)
    assert page.see("#more-count") == "2 of 9 added"
    options = page.tab.locator("#threshold option")
    assert options.all_inner_texts() == ["Stored with the run", "FMR 1%"]
    assert options.evaluate_all("all => all.map(each => each.disabled)") == [False, True]
    assert page.see("#status") == "Further photos added: 2."
    page.tab.click("#submit")
    page.tab.locator("#answer-body").wait_for()
    assert [url for url in page.requests if "/v1/verify" in url] == [
        f"{page.address}/v1/verify-references"
    ]
    assert page.see("#verdict-title") == "Accepted"
    assert page.see("#verdict-why") == STRINGS["en"]["several.why.accepted"]
    assert page.see("#compared") == (
        "Photos that the first one was compared with: 2. Left out, because no face was found in "
        "them: 1."
    )
    assert not page.tab.is_visible("#weight") and not page.tab.is_visible("#sheet-save")
    assert re.search(r"‘generated’ \d+%; of the others \d+% to \d+%", page.see("#parts"))
    heads = page.tab.locator("#facts th[scope=col]").all_inner_texts()
    assert heads == ["First photo", "Second photo", "Photo 3", "Photo 4"]
    assert page.tab.locator("img.crop").count() == 3
    assert page.tab.locator("#more-list .overlay rect.line").count() == 1
    page.tab.click("#more-list li:nth-child(2) button")
    assert page.see("#more-list .name") == "Photo 3" and not page.tab.is_visible("#answer-body")
    assert page.tab.evaluate("document.activeElement.ariaLabel") == "Remove: Photo 3"
    page.tab.keyboard.press("Enter")
    page.tab.click("#submit")
    page.tab.locator("#answer-body").wait_for()
    assert [url for url in page.requests if "/v1/verify" in url][1:] == [
        f"{page.address}/v1/verify"
    ]
    assert not page.tab.is_visible("#compared")


def test_page_adds_no_more_photos_than_the_service_takes(visit, photos, tmp_path):
    page = visit()
    page.add(*[photos[0]] * 8)
    page.add(*photos[:3])
    assert page.see("#status") == (
        "Further photos added: 1. Left out, because the server takes no more: 2."
    )
    assert page.tab.locator("#more-list li").count() == 9
    assert page.tab.is_disabled("#more-input")
    broken = tmp_path / "notes.jpg"
    broken.write_text("not an image, but words")
    page.tab.click("#more-list li:last-child button")
    page.add(broken)
    expect(page.tab.locator("#more-list li:last-child .empty")).to_have_text(
        STRINGS["en"]["photo.no_preview"]
    )
    page.choose(photos[0], photos[1])
    page.tab.click("#submit")
    expect(page.tab.locator("#error")).to_have_text(
        f"Photo 11: {STRINGS['en']['error.unreadable_image']}"
    )


def test_page_offers_no_further_photos_when_the_run_takes_one(visit):
    page = visit()
    info = page.tab.evaluate("fetch('/v1/info').then((answer) => answer.json())")
    page.tab.route("**/v1/info", lambda route: route.fulfill(json={**info, "references": None}))
    page.tab.reload()
    expect(page.tab.locator("#run")).to_contain_text("Run: ")
    assert not page.tab.is_visible("#more")


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_says_every_code_of_several_photos_in_words(visit, photos, answer, language):
    page = visit(locale=LANGUAGES[language])
    page.choose(photos[0], photos[1])
    page.add(photos[2])
    several = {**answer, "photos": [*answer["photos"], answer["photos"][0]]}
    words = STRINGS[language]
    for code in REASONS:
        page.answer_with(several, code=code, accepted=code == "accepted")
        page.tab.click("#submit")
        title = words.get(f"several.code.{code}", words[f"code.{code}"])
        expect(page.tab.locator("#verdict-title")).to_have_text(title)
        expect(page.tab.locator("#verdict-why")).to_have_text(words[f"several.why.{code}"])


# Errors


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_says_every_error_in_words_and_keeps_the_photos(visit, photos, answer, language):
    page = visit(locale=LANGUAGES[language])
    page.choose(photos[0], photos[1])
    for code, (status, _) in CODES.items():
        page.refuse_with(status, code)
        page.tab.click("#submit")
        said = STRINGS[language][f"error.{code}"]
        megabytes, side = {"en": ("0.5", "100,000"), "ru": ("0,5", "100\u00a0000")}[language]
        for name, value in {"megabytes": megabytes, "megapixels": "30", "side": side}.items():
            said = said.replace(f"{{{name}}}", value)
        expect(page.tab.locator("#error")).to_have_text(said)
        assert page.tab.locator(".frame img:visible").count() == 2
        assert photos[0].name in page.see("#file-a") and photos[1].name in page.see("#file-b")
    page.answer_with(answer)
    page.tab.click("#submit")
    page.tab.locator("#answer-body").wait_for()
    assert page.see("#error") == ""
    page.refuse_with(503, "busy")
    page.tab.click("#submit")
    page.tab.locator("#answer-empty").wait_for()
    assert page.tab.locator(".overlay rect").count() == 0


def test_page_says_when_to_try_again(visit, photos):
    page = visit()
    page.refuse_with(503, "busy", {"Retry-After": "2"})
    page.choose(photos[0], photos[1])
    page.tab.click("#submit")
    expect(page.tab.locator("#error")).to_contain_text("Try again in 2 s.")


def test_page_shows_the_sentence_of_the_service_when_the_code_is_new(visit, photos):
    page = visit()
    page.refuse_with(418, "of_a_later_version")
    page.choose(photos[0], photos[1])
    page.tab.click("#submit")
    expect(page.tab.locator("#error")).to_contain_text("the sentence about of_a_later_version")


def test_page_says_so_when_the_server_is_gone(visit, photos):
    page = visit()
    page.tab.route("**/v1/verify", lambda route: route.abort())
    page.choose(photos[0], photos[1])
    page.tab.click("#submit")
    expect(page.tab.locator("#error")).to_have_text(STRINGS["en"]["error.no_server"])
    assert page.tab.locator(".frame img:visible").count() == 2


def test_page_says_so_when_the_answer_is_no_json(visit, photos):
    page = visit()
    page.tab.route("**/v1/verify", lambda route: route.fulfill(body="<html>a proxy"))
    page.choose(photos[0], photos[1])
    page.tab.click("#submit")
    expect(page.tab.locator("#error")).to_have_text(STRINGS["en"]["error.unreadable_answer"])


def test_page_reports_a_file_that_is_no_image(visit, photos, tmp_path):
    text = tmp_path / "notes.jpg"
    text.write_text("not an image, but words")
    page = visit()
    page.choose(text, photos[1])
    expect(page.tab.locator("#panel-a .empty")).to_have_text(STRINGS["en"]["photo.no_preview"])
    page.tab.click("#submit")
    expect(page.tab.locator("#error")).to_have_text(
        f"First photo: {STRINGS['en']['error.unreadable_image']}"
    )
    assert "notes.jpg" in page.see("#file-a")


def test_page_refuses_a_file_above_the_limit_without_sending_it(visit, photos, tmp_path):
    large = tmp_path / "large.jpg"
    large.write_bytes(photos[0].read_bytes() + bytes(LIMITS.photo_bytes))
    page = visit()
    page.choose(photos[0], large)
    page.tab.click("#submit")
    expect(page.tab.locator("#error")).to_have_text(
        "Second photo: The photo is too large. This server takes at most 0.5 MB and 30 megapixels."
    )
    assert not [url for url in page.requests if url.endswith("/v1/verify")]


def test_page_says_which_limit_a_long_photo_exceeds(visit, photos, tmp_path):
    long = tmp_path / "long.png"
    Image.new("L", (100_001, 1)).save(long)
    page = visit()
    page.choose(photos[0], long)
    page.tab.click("#submit")
    expect(page.tab.locator("#error")).to_have_text(
        "Second photo: One side of the photo is too long. This server takes at most 100,000 pixels "
        "in width and in height."
    )


def test_page_asks_for_the_key_and_uses_it(visit, photos, serve):
    page = visit(address=serve(key="open sesame"), examples=False)
    expect(page.tab.locator("#error")).to_have_text(STRINGS["en"]["error.unauthorized"])
    assert page.focused() == "key" and not page.tab.is_visible("#examples")
    page.choose(photos[0], photos[1])
    page.tab.fill("#key", "a guess")
    page.tab.press("#key", "Enter")
    expect(page.tab.locator("#error")).to_have_text(STRINGS["en"]["error.unauthorized"])
    assert page.tab.get_attribute("#key", "aria-invalid") == "true"
    page.tab.fill("#key", "open sesame")
    page.tab.press("#key", "Enter")
    page.tab.locator("#answer-body").wait_for()
    page.tab.locator("#example-list button").first.wait_for()
    assert page.see("#error") == ""
    kept = page.tab.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert kept == "[{},{}]" and page.context.cookies() == []


@pytest.mark.parametrize(
    ("chosen", "key", "focused"),
    [
        ("", "missing_photos", "photo-a"),
        ("b", "missing_photo_a", "photo-a"),
        ("a", "missing_photo_b", "photo-b"),
    ],
)
def test_page_asks_for_the_missing_photo(visit, photos, chosen, key, focused):
    page = visit()
    if chosen:
        page.tab.set_input_files(f"#photo-{chosen}", photos[0])
    page.tab.click("#submit")
    expect(page.tab.locator("#error")).to_have_text(STRINGS["en"][f"error.{key}"])
    assert page.focused() == focused


# Choosing


def test_page_compares_an_example_and_tells_the_truth_about_it(visit):
    page = visit()
    examples = page.tab.locator("#example-list button")
    assert examples.all_inner_texts() == [
        "1. Same person",
        "2. Different people",
        "3. Forgery: face swap",
    ]
    examples.nth(2).click()
    page.tab.locator("#answer-body").wait_for()
    assert page.see("#truth") == (
        "Known truth of this example: a genuine photo and a forgery (face swap) of the same "
        "person. The decision is wrong."
    )
    page.tab.select_option("#threshold", "fmr=0.01")
    expect(page.tab.locator("#truth")).to_contain_text("The decision is right.")
    page.tab.click("#panel-b button")
    page.tab.locator("#answer-empty").wait_for()
    assert not page.tab.is_visible("#answer-body")


def test_page_offers_no_examples_when_the_service_has_none(visit):
    page = visit()
    page.tab.route("**/v1/examples", lambda route: route.fulfill(json=[]))
    page.tab.reload()
    expect(page.tab.locator("#run")).to_contain_text("Run: ")
    assert not page.tab.is_visible("#examples")


def test_page_forgets_the_answer_when_a_photo_changes(visit, photos, answer):
    page = visit()
    page.answer_with(answer)
    page.compare(photos[0], photos[1])
    page.tab.set_input_files("#photo-a", photos[2])
    assert not page.tab.is_visible("#answer-body") and page.tab.is_visible("#answer-empty")
    assert page.tab.locator(".overlay rect").count() == 0


SEND = """([event, target, files]) => {
  const data = new DataTransfer();
  for (const [name, base64] of files) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], name, { type: "image/png" }));
  }
  const options = { bubbles: true, cancelable: true };
  const made = event === "paste"
    ? new ClipboardEvent("paste", { ...options, clipboardData: data })
    : new DragEvent(event, { ...options, dataTransfer: data });
  document.querySelector(target).dispatchEvent(made);
  return made.defaultPrevented;
}"""


@pytest.mark.parametrize(
    ("event", "target", "files", "expected"),
    [
        ("paste", "body", [0], "0.png, "),
        ("paste", "body", [0, 1], "0.png, 1.png, "),
        ("drop", "#panel-b .zone", [0], ", 0.png"),
        ("drop", "#panel-b .zone", [0, 1], "1.png, 0.png"),
        ("drop", "header", [0], "0.png, "),
    ],
)
def test_page_takes_pasted_and_dropped_photos(visit, photos, event, target, files, expected):
    page = visit()
    named = [(photos[n].name, base64.b64encode(photos[n].read_bytes()).decode()) for n in files]
    assert page.tab.evaluate(SEND, [event, target, named])  # the browser would open the photo
    names = [page.see(f"#file-{slot}").partition(",")[0] for slot in "ab"]
    assert names == [name.strip() for name in (expected + ",").split(",")[:2]]


def test_page_pastes_into_an_empty_frame_before_a_filled_one(visit, photos):
    page = visit()

    def paste(number):
        content = base64.b64encode(photos[number].read_bytes()).decode()
        page.tab.evaluate(SEND, ["paste", "body", [(photos[number].name, content)]])
        return [page.see(f"#file-{slot}")[:5] for slot in "ab"]

    page.tab.focus("#photo-b")
    assert paste(0) == ["", "0.png"]
    assert paste(1) == ["1.png", "0.png"]  # though the second is focused
    assert paste(2) == ["1.png", "2.png"]
    page.tab.click("#panel-a button")
    assert page.focused() == "photo-a" and page.see("#file-a") == ""


def test_page_asks_again_when_the_threshold_changes_before_the_answer(visit, photos, answer):
    page = visit()
    asked = []

    def hold(route):
        asked.append(route.request.post_data_buffer or b"")
        if len(asked) == 2:
            route.fulfill(json=answer)

    page.tab.route("**/v1/verify", hold)
    page.choose(photos[0], photos[1])
    page.tab.click("#submit")
    page.tab.locator("#answer[aria-busy=true]").wait_for()
    page.tab.select_option("#threshold", "fmr=0.01")
    page.tab.locator("#answer-body").wait_for()
    assert len(asked) == 2
    assert page.tab.locator("#answer[aria-busy]").count() == 0


# Access


def choose_by_key(tab, photo):
    """Opens the chooser by the space bar, which a starved browser may take for too old a key."""
    for attempt in range(3):
        try:
            with tab.expect_file_chooser(timeout=7_000) as chooser:
                tab.keyboard.press("Space")
        except PageTimeoutError:
            if attempt == 2:
                raise
        else:
            chooser.value.set_files(photo)
            return


def test_page_is_used_by_keyboard_alone(visit, photos):
    page = visit()
    press = page.tab.keyboard.press
    press("Tab")
    assert page.tab.evaluate("document.activeElement.className") == "skip"
    assert page.tab.locator(".skip").bounding_box()["y"] >= 0
    press("Enter")
    for slot, photo in zip("ab", photos, strict=False):
        press("Tab")
        assert page.focused() == f"photo-{slot}"
        outline = page.tab.locator(f"#panel-{slot} .frame")
        assert outline.evaluate("frame => getComputedStyle(frame).outlineStyle") == "solid"
        choose_by_key(page.tab, photo)
        expect(page.tab.locator(f"#file-{slot}")).to_contain_text(photo.name)
        press("Tab")  # to the button that removes it
    press("Tab")
    assert page.focused() == "more-input"
    outline = page.tab.locator("#more-label")
    assert outline.evaluate("label => getComputedStyle(label).outlineStyle") == "solid"
    choose_by_key(page.tab, photos[2])
    expect(page.tab.locator("#more-list li")).to_have_count(1)
    press("Shift+Tab")
    press("Enter")  # removes it
    expect(page.tab.locator("#more-list li")).to_have_count(0)
    assert page.focused() == "more-input"
    press("Tab")
    assert page.focused() == "threshold"
    press("Tab")
    assert page.focused() == "submit"
    press("Enter")
    page.tab.locator("#answer-body").wait_for()
    assert page.focused() == "answer-title"
    press("Tab")
    assert page.focused() == "sheet-save"
    press("Tab")
    assert page.tab.evaluate("document.activeElement.innerText") == "1. Same person"


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_passes_axe(visit, photos, answer, theme):
    page = visit(color_scheme=theme)
    assert page.violations() == {}
    page.answer_with({**answer, "photos": answer["photos"] * 2})
    page.add(photos[2], photos[0])
    page.compare(photos[0], photos[1])
    assert page.violations() == {}
    page.answer_with(answer, code="photos_disagree", accepted=False, explanation=explained())
    page.tab.click("#submit")
    expect(page.tab.locator("#verdict-title")).to_contain_text("Refused: ")
    assert page.violations() == {}
    page.refuse_with(401, "unauthorized")
    page.tab.click("#submit")
    page.tab.locator("#key").wait_for()
    assert page.violations() == {}


SAVE = STRINGS["en"]["sheet.save"]


def test_page_has_landmarks_headings_and_live_regions(visit, photos, answer):
    page = visit()
    page.answer_with(answer)
    page.compare(photos[0], photos[1])
    by_role = page.tab.get_by_role
    for role, names in {
        "banner": [None],
        "main": [None],
        "contentinfo": [None],
        "alert": [None],
        "status": [None],
        "form": ["Two photos"],
        "region": ["Answer", "Example pairs of generated people", "What this means"],
        "group": ["Language", "First photo", "Second photo", "More photos of the same person"],
        "combobox": ["Threshold"],
        "button": ["Compare", "Remove the first photo", "Remove the second photo", SAVE],
        "img": [page.see("#score-text")],
    }.items():
        for name in names:
            assert by_role(role, name=name, exact=True).count() == 1, (role, name)
    headings = page.tab.locator("h1, h2, h3").evaluate_all("all => all.map(each => each.tagName)")
    assert headings[0] == "H1" and "H1" not in headings[1:]


# The page's policy refuses style elements, but not a sheet that the browser's driver makes.
ADOPT = """(style) => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(style);
  document.adoptedStyleSheets = [sheet];
}"""
# The spacing of WCAG 2.2, 1.4.12, which also stands for the wider font of another machine.
SPACING = "* { letter-spacing: 0.12em; word-spacing: 0.16em; line-height: 1.5; }"


@pytest.mark.parametrize(
    ("width", "style"), [(320, ""), (320, SPACING), (390, "")], ids=["320", "320-spaced", "390"]
)
@pytest.mark.parametrize("language", LANGUAGES)
def test_page_fits_a_narrow_screen(visit, photos, answer, width, style, language):
    page = visit(viewport={"width": width, "height": 844}, locale=LANGUAGES[language])
    page.tab.evaluate(ADOPT, style)
    assert not page.is_too_wide()
    told = explained(branch="differential_detector", degree="moderately_strong")
    page.answer_with({**answer, "photos": (answer["photos"] * 6)[:11], "explanation": told})
    page.add(*[photos[2]] * 9)
    page.compare(photos[0], photos[1])
    assert not page.is_too_wide()
    top = page.tab.locator("#answer-title").bounding_box()["y"]
    assert -1 < top < 844 / 2
    page.refuse_with(401, "unauthorized")
    page.tab.click("#submit")
    page.tab.locator("#key").wait_for()
    assert not page.is_too_wide()


STYLE = """() => {
  const style = (selector) => getComputedStyle(document.querySelector(selector));
  const ground = style("body").backgroundColor.match(/[0-9]+/g).map(Number);
  return [Math.max(...ground), style("html").scrollBehavior, style("button").transitionDuration];
}"""


def test_page_follows_the_theme_and_the_wish_for_less_motion(visit):
    light = visit(color_scheme="light", reduced_motion="reduce").tab.evaluate(STYLE)
    dark = visit(color_scheme="dark", reduced_motion="no-preference").tab.evaluate(STYLE)
    assert light[0] > 200 > 50 > dark[0]
    assert (light[1:], dark[1]) == (["auto", "0s"], "smooth")


# Languages


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_speaks_the_language_of_the_browser(visit, language):
    page = visit(locale=LANGUAGES[language])
    assert page.tab.get_attribute("html", "lang") == language
    assert page.tab.title() == STRINGS[language]["document.title"]
    assert page.see("#submit") == STRINGS[language]["submit"]


def test_page_remembers_the_chosen_language(visit, photos, answer):
    page = visit()
    page.answer_with(answer)
    page.compare(photos[0], photos[1])
    page.tab.get_by_role("button", name="Русский").click()
    assert page.tab.get_attribute("html", "lang") == "ru"
    assert page.see("#verdict-title") == "Принято"
    assert re.search(r"Оценка −?\d+,\d\d не ниже порога −50,00", page.see("#score-text"))
    seen = page.see("body").replace("English", "").replace("Kryptonite", "")
    names = re.compile(r"FMR|API|\S+\.png|[abp]\w*-\d|run\b")
    assert not re.findall(r"[A-Za-z]{2,}", names.sub("", seen))
    page.tab.reload()
    page.tab.locator("#example-list button").first.wait_for()
    assert page.tab.get_attribute("html", "lang") == "ru"
    pressed = page.tab.locator("[data-language][aria-pressed=true]").all_inner_texts()
    assert pressed == ["Русский"]


def test_strings_are_the_same_in_both_languages():
    english, russian = STRINGS["en"], STRINGS["ru"]
    assert list(english) == list(russian)
    placeholder = re.compile(r"\{\w+\}")
    for key, text in english.items():
        assert sorted(placeholder.findall(text)) == sorted(placeholder.findall(russian[key])), key
        assert text.strip() and russian[key].strip(), key
    same = {key for key in english if english[key] == russian[key]}
    assert same == {
        key for key in same if not re.search(r"[A-Za-z]{4,}", placeholder.sub("", english[key]))
    }


def test_strings_cover_every_code_and_every_use():
    for code in REASONS:
        assert {f"code.{code}", f"why.{code}", f"several.why.{code}"} <= set(STRINGS["en"])
    for code in CODES:
        assert f"error.{code}" in STRINGS["en"]
    for degree in DEGREES:
        assert f"degree.{degree}" in STRINGS["en"]
    script = (PAGE / "script.js").read_text(encoding="utf-8")
    used = re.findall(r'\btext\("([\w.]+)"', script) + re.findall(
        r'data-(?:text|label)="([\w.]+)"', (PAGE / "index.html").read_text(encoding="utf-8")
    )
    assert len(used) > 50
    assert set(used) <= set(STRINGS["en"])


def test_page_files_hold_no_inline_code_and_no_foreign_address():
    markup = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script>|javascript:", markup)
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//\w+\.\w", text), path.name
