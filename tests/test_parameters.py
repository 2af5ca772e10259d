"""A notebook refuses parameters that it does not have or that are of the wrong type."""

import nbformat
import papermill
import pytest

from tumorbench_utils import parameters
from tumorbench_utils.parameters import ParameterError

INJECTED = "# Parameters\ncohort = 'rider'\ndraws = 20\n"


def test_right_types_pass():
    namespace = {"cohort": "rider", "draws": 20, "models": ["fmcib"], "share": 0.5, "strict": True}
    parameters.check(namespace, cohort=str, draws=int, models=list, share=float, strict=bool)
    parameters.check(namespace, share=(int, float), draws=(int, float), cohort=(str, type(None)))


@pytest.mark.parametrize(
    ("value", "kind", "fault"),
    [
        ("20", int, "parameter draws must be int, not '20'"),
        (20.0, int, "parameter draws must be int, not 20.0"),
        (None, int, "parameter draws must be int, not None"),
        (True, int, "parameter draws must be int, not True"),
        (1, bool, "parameter draws must be bool, not 1"),
        ("fmcib", list, "parameter draws must be list, not 'fmcib'"),
        ("x", (int, float), "parameter draws must be int or float, not 'x'"),
        (False, (int, float), "parameter draws must be int or float, not False"),
    ],
)
def test_wrong_type_is_named_with_the_value(value, kind, fault):
    with pytest.raises(ParameterError) as caught:
        parameters.check({"draws": value}, draws=kind)
    assert str(caught.value) == fault


def test_whole_numbers_have_a_least_value():
    least = {"draws": 1, "trials": 0, "most": -1}
    for name, value in least.items():
        parameters.check({name: value}, ("trials",), ("most",), **{name: int})
        with pytest.raises(ParameterError, match=f"parameter {name} must be at least {value}, not {value - 1}"):
            parameters.check({name: value - 1}, ("trials",), ("most",), **{name: int})


def test_bool_may_be_one_of_several_types():
    parameters.check({"draws": True}, draws=(int, bool))


def test_unknown_injected_name_is_told_with_the_known_ones():
    namespace = {"In": ["", INJECTED + "drawz = 3\nmodles = []\n"], "cohort": "rider", "draws": 20}
    with pytest.raises(ParameterError) as caught:
        parameters.check(namespace, cohort=str, draws=int)
    assert str(caught.value) == "unknown parameter drawz, modles. Known: cohort, draws"


def test_only_the_injected_cell_is_searched():
    others = ["import os", "# Parameters of the plot\nwidth = 3", "width = 3  # Parameters", "%timeit x", "a b c"]
    assert parameters.injected_names(["", *others]) == set()
    assert parameters.injected_names(["", *others, INJECTED]) == {"cohort", "draws"}


def test_injected_values_may_span_lines():
    source = '# Parameters\nmodels = [\n    "fmcib",\n    "ct_fm",\n]\noptions = {"a": 1}\nnote = """\nx = 3\n"""\n'
    assert parameters.injected_names([source]) == {"models", "options", "note"}


def test_outside_of_ipython_only_types_are_checked():
    parameters.check({"draws": 20, "other": 1}, draws=int)


# In a notebook that papermill runs


CHECK = "parameters.check(globals(), draws=int, cohort=str)"
CELLS = [
    "from tumorbench_utils import parameters",
    "draws = 10\ncohort = 'luna16'",
    CHECK,
    "# Parameters of a plot\nwidth = 3",  # variables of a notebook in use
    CHECK,
    "print(cohort, draws)",
]


@pytest.fixture
def run(tmp_path):
    """Run a notebook of ``CELLS`` with given parameters; what it printed."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    cells[1]["metadata"]["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.write(notebook, tmp_path / "in.ipynb")

    def run(**given):
        paths = str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb")
        ran = papermill.execute_notebook(*paths, given, kernel_name="python3", progress_bar=False, cwd=str(tmp_path))
        return ran.cells[-1].outputs[0].text

    return run


def test_notebook_takes_its_parameters_and_may_be_checked_again(run):
    assert run(draws=20) == "luna16 20\n"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"draw": 20}, "unknown parameter draw. Known: draws, cohort"),
        ({"draws": "20"}, "parameter draws must be int, not '20'"),
    ],
)
def test_notebook_fails_on_a_wrong_parameter(run, given, fault):
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        run(**given)
    assert (caught.value.ename, caught.value.evalue) == ("ParameterError", fault)


def test_counts_below_one_are_refused():
    with pytest.raises(parameters.ParameterError, match="draws must be at least 1, not 0"):
        parameters.check({"draws": 0}, draws=int)


def test_counts_that_may_be_zero_are_at_least_zero():
    parameters.check({"trials": 0, "draws": 1}, ("trials",), trials=int, draws=int)
    with pytest.raises(parameters.ParameterError, match="trials must be at least 0, not -1"):
        parameters.check({"trials": -1}, ("trials",), trials=int)
    with pytest.raises(parameters.ParameterError, match="draws must be at least 1, not 0"):  # the others as before
        parameters.check({"trials": 0, "draws": 0}, ("trials",), trials=int, draws=int)


@pytest.mark.parametrize("value", [False, "0", 0.0, None])
def test_what_may_be_zero_must_still_be_of_its_type(value):
    with pytest.raises(parameters.ParameterError, match="trials must be int"):
        parameters.check({"trials": value}, ("trials",), trials=int)
