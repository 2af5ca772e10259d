"""Order of the files: the longest first, so that the processes that test (`make test`) end together.

Each process begins with one of the first files, and has one of the next as many in hand until that one ends. Of three,
the first builds the book, the second tests what needs none, and the third waits for the book: three at once would hold
up the book, and with it all that needs it.
"""

from pathlib import Path

TESTS = Path(__file__).parent
LONGEST = (
    "book/test_book.py",  # builds the book
    "workflow/test_workflow.py",
    "book/test_commands.py",  # waits for it
    "test_notebooks.py",
    "workflow/test_clean_environment.py",
    "book/test_every_page_on_a_desktop.py",
    "test_bank.py",
    "test_curation.py",
    "test_phantom.py",
    "test_own_cohort.py",
    "workflow/test_cluster.py",
    "test_published.py",
    "test_extraction.py",
    "test_own_model.py",
    "test_models_library.py",
    "test_loading.py",
    "workflow/test_code_hash.py",
)
LAST = ("book/test_every_page_on_a_phone.py",)


def pytest_collection_modifyitems(items):
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    place |= {TESTS / name: len(LONGEST) + 1 + number for number, name in enumerate(LAST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))
