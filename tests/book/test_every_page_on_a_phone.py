"""Every page of the quick book at the width of a phone."""

from every_page import (  # noqa: F401
    opened_at,
    test_the_page_is_whole_readable_and_accessible,
    test_what_shows_first_comes_within_a_second,  # after the other: it loads the page again
)

loaded = opened_at(390)
