"""Prints what the slow tests measured, as a table."""

COLUMNS = ("model", "recipe", "seconds a tumour", "peak GB", "seconds to load", "peak GB of loading")


def pytest_terminal_summary(terminalreporter):
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    rows = [value for report in reports for name, value in report.user_properties if name == "measured"]
    if rows:
        terminalreporter.section("measured, on the CPU in fp32")
    for row in [COLUMNS, ("---",) * len(COLUMNS), *rows] if rows else []:
        terminalreporter.write_line(f"| {' | '.join(row)} |")
