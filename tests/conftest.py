"""Order of the files: the longest first, so that the processes that test (`make test`) end together; what needs the
book comes last, when the first file has built it.

Each process begins with one of the first two files and has the third or the fourth in hand until that one ends.
"""

from pathlib import Path

TESTS = Path(__file__).parent
LONGEST = (
    "book/test_book.py",  # builds the book
    "workflow/test_workflow.py",
    "test_registry.py",  # short, since it waits for the book
    "test_notebooks.py",
    "workflow/test_clean_environment.py",
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
WITH_BOOK = ("book/test_commands.py", "book/test_every_page_on_a_desktop.py", "book/test_every_page_on_a_phone.py")


def pytest_collection_modifyitems(items):
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    place |= {TESTS / name: len(LONGEST) + 1 + number for number, name in enumerate(WITH_BOOK)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))
