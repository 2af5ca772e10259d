"""Order of the files: the longest first, so that the processes that test (`make test`) end together.

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
    "book/test_commands.py",  # needs the book
)


def pytest_collection_modifyitems(items):
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
