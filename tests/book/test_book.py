"""The built book as a reader meets it: on a desktop and a phone, light and dark, with nothing from another host."""

import html as markup
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import nbformat
import pytest
import requests
from chapters import QUICK, ROOT, STAGES, pages

KNN = "notebooks/3_knn_evaluation/nsclc_radiomics.html"
BOARD = "notebooks/7_leaderboard/leaderboard.html"
CURATED, EXTRACTED = STAGES["1_data_curation"], STAGES["2_embedding_extraction"]
REPOSITORY = "https://github.com/tumorbench/tumorbench"


@pytest.fixture(scope="module")
def knn(visit):
    with visit(KNN) as visited:
        yield visited.page


# Single pages


def test_the_protocol_has_formulas_in_fonts_of_our_own(visit, site):
    with visit("protocol.html") as protocol:
        assert protocol.page.locator("mjx-container").count() > 5
        fonts = [request.url for request in protocol.requests if "/mathjax/" in request.url and ".woff" in request.url]
        assert fonts
        assert all(font.startswith(f"{site}_static/mathjax/es5/output/chtml/fonts/woff-v2/") for font in fonts)
        assert protocol.page.evaluate("document.fonts.check('16px MJXTEX')")


def test_the_address_of_the_book_leads_to_its_first_page(visit, site):
    with visit("references.html") as book:
        book.page.goto(site)
        book.page.wait_for_url(f"{site}{pages()[0]}")
        # leaving the first file at once, the browser may break off loading its icon
        assert [failure for failure in book.failures if "ERR_ABORTED" not in failure] == []
        assert book.messages == []


def test_published_and_recomputed_auc_stand_side_by_side(knn):
    table = knn.locator("table", has=knn.locator("th", has_text="as published")).first
    head = [cell.strip() for cell in table.locator("thead th").all_inner_texts()]
    cells = [cell.strip() for cell in table.locator("tbody tr").nth(1).locator("td").all_inner_texts()]
    cells = [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in cells]
    row = dict(zip(head, cells, strict=True))
    assert table.locator("tbody td.tb-group").first.inner_text().strip() == "FMCIB (own recipe)"
    assert row["as published"] == "0.577\n(0.550 to 0.604)"
    assert row["this run"] == "0.579\n(0.553 to 0.605)"
    assert float(row["difference"]) == pytest.approx(0.002, abs=0.0011)
    assert row["same features"] == "no"
    marked = table.locator("tbody td.tb-published, tbody .tb-published").all_inner_texts()
    assert [cell.strip().replace("\N{NO-BREAK SPACE}", " ") for cell in marked] == [row["as published"]]
    assert head.index("as published") < head.index("this run") < head.index("difference")


def test_published_figures_of_the_study_carry_their_mark(visit):
    with visit("study.html") as study:
        row = study.page.locator("#auc-of-ten-models-on-six-cohorts-as-published tbody tr", has_text="FMCIB")
        marked = row.locator("span.tb-published").all_inner_texts()
        assert marked == row.locator("td").all_inner_texts()[1:]
        assert len(marked) == 6
        assert {"0.886", "0.577"} <= set(marked)
        ring = study.page.evaluate(
            "e => getComputedStyle(e, '::before').borderTopWidth", row.locator("span").first.element_handle()
        )
        assert float(ring.removesuffix("px")) > 0


def test_pages_of_the_data_stand_in_the_menu_under_the_names_of_their_cohorts(knn, site):
    links = knn.locator(".bd-sidebar-primary a[href*='1_data_curation']")
    found = {urljoin(knn.url, link.get_attribute("href")): link.inner_text().strip() for link in links.all()}
    assert [address.removeprefix(site) for address in found] == CURATED
    titles = {Path(address).stem: title for address, title in found.items()}
    assert (titles["luna16"], titles["c4kc_kits"], titles["phantom"]) == ("LUNA16", "C4KC-KiTS", "PHANTOM")


def test_labels_of_luna16_are_as_many_as_expected(visit):
    with visit("notebooks/1_data_curation/luna16.html") as luna:
        words = luna.page.locator("article").inner_text()
        assert "327 positive and 350 negative samples, as expected" in words
        assert "PHANTOM" not in words
        headings = " ".join(luna.page.locator("article h2").all_inner_texts())
        assert "What the readers said" in headings and "Limits" in headings
        assert "The patch bank" not in headings  # there are no images


def test_every_figure_of_phantoms_says_so(visit):
    with visit("notebooks/1_data_curation/phantom.html") as phantom:
        captions = phantom.page.locator("figure.tb-figure figcaption").all_inner_texts()
        assert len(captions) >= 4
        assert all("PHANTOM" in caption for caption in captions)
        assert "What the readers said" not in phantom.page.locator("article").inner_text()


def test_pages_of_the_embeddings_stand_in_the_menu_under_the_names_of_their_models(knn, site):
    links = knn.locator(".bd-sidebar-primary a[href*='2_embedding_extraction']")
    found = {urljoin(knn.url, link.get_attribute("href")): link.inner_text().strip() for link in links.all()}
    assert [address.removeprefix(site) for address in found] == EXTRACTED
    assert {Path(address).stem: title for address, title in found.items()}["ct_fm"] == "CT-FM"


def test_what_is_untrained_is_said_on_its_page_and_on_every_figure_of_its_vectors(visit):
    extracted = QUICK["2_embedding_extraction"].items()
    random = {model: given for model, given in extracted if given.get("weights") == "random"}
    untrained = {model: len(given.get("recipes", ["benchmark"])) for model, given in random.items()}
    assert sorted(untrained) == ["ct_fm", "models_genesis", "random_encoder", "suprem"]
    for model, recipes in untrained.items():
        with visit(f"notebooks/2_embedding_extraction/{model}.html") as shown:
            assert "untrained: weights as drawn at random" in shown.page.locator(".tb-notice").last.inner_text()
            captions = shown.page.locator("figure.tb-figure figcaption").all_inner_texts()
            patches = [caption for caption in captions if caption.startswith("Recipe ")]  # of a real tumour, as fed
            assert len(patches) == recipes and len(captions) == 3 + recipes + (recipes > 1)  # two are compared
            assert all("UNTRAINED" in caption for caption in captions if caption not in patches)


def test_the_trained_encoder_is_not_called_untrained(visit):
    with visit("notebooks/2_embedding_extraction/astra.html") as shown:
        words = shown.page.locator("article").inner_text()
        assert "930 tensors loaded, all that the encoder has" in words and "third party" in words
        assert "UNTRAINED" not in words
        assert any("PHANTOM" in text for text in shown.page.locator("figcaption").all_inner_texts())


def test_pages_of_later_stages_stand_in_the_menu_in_the_order_of_the_profile(knn, site):
    links = knn.locator(".bd-sidebar-primary a[href$='.html']")
    found = [urljoin(knn.url, link.get_attribute("href")).removeprefix(site) for link in links.all()]
    there = {stage: [page for page in found if f"/{stage}/" in page] for stage in STAGES}
    # a page's link to itself has no address
    assert there == {stage: [page for page in some if page != KNN] for stage, some in STAGES.items()}


@pytest.mark.parametrize(
    "page",
    [
        "4_robustness/phantom",
        "4_robustness/phantom_retest",
        "3_knn_evaluation/phantom_a",
        "3b_beyond_knn/phantom_a",
        "3c_external_validation/phantom_malignancy",
        "6_representation_alignment/phantom_a",
    ],
)
def test_every_figure_of_phantoms_in_later_stages_says_so(visit, page):
    with visit(f"notebooks/{page}.html") as shown:
        captions = shown.page.locator("figure.tb-figure figcaption").all_inner_texts()
        assert len(captions) >= 3
        published = [caption for caption in captions if caption.startswith("As published")]
        assert all("PHANTOM" in caption.split(":")[0] for caption in captions if caption not in published)


def test_the_leaderboard_is_sorted_and_filtered_in_the_book(visit):
    with visit(BOARD) as shown:
        table = shown.page.locator("figure.tb-sortable")
        names = table.locator("tbody tr:visible th, tbody tr:visible td:first-child")
        before = names.all_inner_texts()
        assert len(before) >= 9 and any("Astra" in name for name in before)
        table.locator("thead button").first.click()
        assert names.all_inner_texts() != before and sorted(names.all_inner_texts()) == sorted(before)
        table.locator("input[type=search]").fill("radiomics (hand")
        assert [name.split("\n")[0] for name in names.all_inner_texts()] == ["Radiomics (handcrafted)"]
        downloads = table.locator("a[download]")
        assert {link.get_attribute("download") for link in downloads.all()} == {"leaderboard.csv", "leaderboard.json"}
        assert all(link.get_attribute("href").startswith("data:") for link in downloads.all())
        assert shown.messages == []


def test_published_and_own_ranks_are_apart_on_the_leaderboard(visit):
    with visit(BOARD) as shown:
        captions = shown.page.locator("figure.tb-figure figcaption").all_inner_texts()
        published = [caption for caption in captions if "as published" in caption.lower()]
        assert published and len(published) < len(captions)


def test_which_model_names_none_for_patients_in_the_quick_run(visit):
    with visit("which_model.html") as shown:
        words = shown.page.locator("article").inner_text()
        assert "This run names no model for patients." in words and "As published:" in words


def test_the_status_page_has_the_record_of_every_page_of_the_run_and_all_are_of_today(visit, site):
    with visit("status.html") as status:
        found = {}
        for table in status.page.locator("article table").all():
            head = [cell.strip() for cell in table.locator("thead th").all_inner_texts()]
            if head and head[0] == "page":
                for row in table.locator("tbody tr").all():
                    cells = dict(zip(head, row.locator("td").all_inner_texts(), strict=True))
                    address = urljoin(status.page.url, row.locator("a").first.get_attribute("href"))
                    found[address.removeprefix(site)] = cells
    assert sorted(found) == sorted(page for some in STAGES.values() for page in some)
    assert {cells["current"] for cells in found.values()} == {"yes"}
    assert all(re.fullmatch("[0-9a-f]{8}", cells[name]) for cells in found.values() for name in ("code", "results"))
    assert all(re.search("[0-9] (s|min)", cells["took"]) for cells in found.values())


def test_the_page_of_published_controls_names_the_patients_that_are_odd(visit):
    with visit("notebooks/4_robustness/nsclc_radiomics.html") as shown:
        words = shown.page.locator("article").inner_text()
        assert all(patient in words for patient in ("LUNG1-023", "LUNG1-326", "LUNG1-399"))
        assert "PHANTOM" not in words and "UNTRAINED" not in words
        assert "Another scanner" not in shown.page.locator("article h2").all_inner_texts()  # it has no patches


def test_the_page_of_an_untrained_encoder_s_saliency_says_so_on_every_figure(visit):
    with visit("notebooks/5_saliency/random_encoder.html") as shown:
        captions = shown.page.locator("figure.tb-figure figcaption").all_inner_texts()
        assert len(captions) >= 5 and all("UNTRAINED" in caption.split(":")[0] for caption in captions)
        assert shown.page.locator("figure.tb-viewer").count() == 1


def test_the_sliders_of_the_viewer_of_a_map_change_what_it_says(visit):
    with visit("notebooks/5_saliency/astra.html") as shown:
        viewer = shown.page.locator("figure.tb-viewer").first
        before = viewer.inner_text()
        viewer.locator("input[type=range]").first.press("ArrowRight")
        assert viewer.inner_text() != before
        assert shown.messages == []


def test_no_hidden_code_without_output_is_left(html):
    for page in [page for stage, some in STAGES.items() for page in some if stage != "3_knn_evaluation"]:
        source = (html / "_sources" / page.replace(".html", ".ipynb")).read_text(encoding="utf-8")
        cells = json.loads(source)["cells"]
        begin = next(number for number, cell in enumerate(cells) if "".join(cell["source"]).startswith("## "))
        hidden = [cell for cell in cells[begin:] if "hide-input" in cell["metadata"].get("tags", [])]
        assert hidden and all(cell["outputs"] for cell in hidden), page


def test_colab_opens_the_source_notebook(knn):
    links = knn.locator("a[href*='colab.research.google.com']")
    addresses = {links.nth(number).get_attribute("href") for number in range(links.count())}
    repository = REPOSITORY.removeprefix("https://github.com/")
    assert addresses == {
        f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/3_knn_evaluation.ipynb"
    }
    assert (ROOT / "notebooks" / "3_knn_evaluation.ipynb").is_file()


def test_the_executed_notebook_can_be_downloaded(knn):
    links = knn.locator("a[href$='.ipynb']:not([href*='//colab'])")
    addresses = {urljoin(knn.url, links.nth(number).get_attribute("href")) for number in range(links.count())}
    (address,) = {each for each in addresses if urlsplit(each).netloc == urlsplit(knn.url).netloc}
    answer = requests.get(address, timeout=10)
    assert answer.status_code == 200
    notebook = nbformat.reads(answer.text, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert sum(bool(cell.outputs) for cell in code) > 10


def test_parameters_are_folded_and_can_be_opened(knn):
    cells = knn.locator("div.cell.tag_injected-parameters")
    assert cells.count() == 1
    code = cells.locator("div.highlight")
    assert not code.is_visible()
    cells.locator("summary").click()
    assert code.is_visible()
    assert "fmcib_authors" in code.inner_text()


def test_the_install_cell_is_not_shown(knn):
    assert "pip install" not in knn.locator("article").inner_text()


def test_search_finds_a_model(visit, site):
    with visit(pages()[0]) as start:
        page = start.page
        page.locator("button.search-button__button:visible").first.click()
        page.locator("input[type=search]:visible").first.fill("VISTA3D")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{site}search.html?q=VISTA3D*")
        found = page.locator("ul.search li a")
        found.first.wait_for()
        found.first.click()
        page.wait_for_load_state()
        assert page.url.startswith(site)
        assert not page.url.startswith(f"{site}search.html")
        assert "VISTA3D" in page.locator("article").inner_text()
        # leaving the page of results, the browser breaks off reading the pages that it would have quoted from
        assert [failure for failure in start.failures if "ERR_ABORTED" not in failure] == []
        assert start.messages == []


def test_the_theme_can_be_switched_and_stays(visit):
    ground = "getComputedStyle(document.body).backgroundColor"
    with visit(pages()[0], theme="light") as start:
        page = start.page
        light = page.evaluate(ground)
        for _ in range(3):  # automatic, light, dark
            if page.evaluate("document.documentElement.dataset.theme") == "dark":
                break
            page.locator("button.theme-switch-button:visible").first.click()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        dark = page.evaluate(ground)
        assert dark != light
        page.reload()
        assert page.evaluate(ground) == dark
        assert start.messages == []


def test_the_menu_of_a_phone_opens_and_leads_on(visit):
    with visit(pages()[0], width=390) as start:
        page = start.page
        link = page.locator(".bd-sidebar-primary a", has_text="The protocol").first
        assert not link.is_visible()
        page.locator("button.primary-toggle:visible").first.click()
        link.click()
        page.wait_for_url("**/protocol.html")
        assert start.messages == []


# All files


class Collector(HTMLParser):
    """Identifiers and addresses of one file."""

    def __init__(self):
        super().__init__()
        self.ids, self.links = set(), set()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links |= {given[name] for name in ("href", "src") if given.get(name)}


@cache
def collected(address):
    """Status, identifiers and links of an address."""
    answer = requests.get(address, timeout=10)
    collector = Collector()
    if "html" in answer.headers.get("Content-Type", ""):
        collector.feed(answer.content.decode("utf-8"))
    return answer.status_code, collector.ids, collector.links


def built_pages(html):
    return sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)


def test_every_page_of_the_contents_is_built(html):
    built = {str(path.relative_to(html)) for path in built_pages(html)}
    assert set(pages()) <= built
    assert built - set(pages()) <= {"index.html", "genindex.html", "search.html"}


def test_every_internal_link_and_anchor_is_alive(html, site):
    dead, followed = [], 0
    for path in built_pages(html):
        page = f"{site}{path.relative_to(html).as_posix()}"
        _, _, links = collected(page)
        for link in links:
            address, fragment = urldefrag(urljoin(page, link))
            if not address.startswith(site):
                continue
            followed += 1
            status, ids, _ = collected(address)
            if status != 200 or (fragment and markup.unescape(fragment) not in ids):
                dead.append(f"{path.relative_to(html)}: {link}")
    assert followed > 300
    assert sorted(dead) == []


def test_links_to_other_hosts_are_secure(html, site):
    outside = set()
    for path in built_pages(html):
        outside |= {link for link in collected(f"{site}{path.relative_to(html).as_posix()}")[2] if "//" in link}
    schemes = {urlsplit(link).scheme for link in outside}
    assert schemes <= {"https", "data"}, sorted(
        link for link in outside if urlsplit(link).scheme not in ("https", "data")
    )


def test_no_file_names_a_folder_of_this_machine(html):
    folders = {f"{folder}/".encode() for folder in (ROOT, Path.home()) if folder != Path("/")}
    files = [path for path in html.rglob("*") if path.is_file()]
    assert len(files) > 50
    naming = [str(path.relative_to(html)) for path in files if any(folder in path.read_bytes() for folder in folders)]
    assert naming == []


def test_sources_of_pages_hold_no_error(html):
    notebook = json.loads((html / "_sources" / KNN.replace(".html", ".ipynb")).read_text(encoding="utf-8"))
    kinds = {output["output_type"] for cell in notebook["cells"] for output in cell.get("outputs", [])}
    assert "error" not in kinds


def test_the_search_index_knows_prose_and_notebooks(html):
    index = (html / "searchindex.js").read_text(encoding="utf-8")
    names = json.loads(re.search(r'"docnames":\s*(\[[^\]]*\])', index)[1])
    assert set(names) == {page.removesuffix(".html") for page in pages()}
