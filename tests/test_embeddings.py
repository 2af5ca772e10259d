"""Embedding tables come back bit for bit, broken ones are refused by name, and vectors meet the right annotations."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.preprocessing import StandardScaler

from tumorbench_utils import artefacts, embeddings
from tumorbench_utils.embeddings import EmbeddingError

RECORD = {"parameters": {"model": "fmcib"}, "inputs": {}}
IDS = ["b", "007", "a"]
VECTORS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "embeddings" / "luna16" / "fmcib.parquet"


def refused(call, *arguments, **options):
    """Message of the :class:`EmbeddingError` that a call must raise."""
    with pytest.raises(EmbeddingError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def annotated(*names):
    return pd.DataFrame({"sample_id": names, "clinical_row": range(len(names))})


def numbered(*names):
    """Vectors that tell their sample by their first number: 1, 2, ... in the order of the names."""
    return list(names), np.column_stack([np.arange(1, len(names) + 1), np.ones((len(names), 2))])


# Write and read


def test_path_of_a_run(tmp_path, path):
    assert embeddings.path_of(tmp_path, "luna16", "fmcib") == path


def test_written_table_is_read_back_bit_for_bit(path):
    extreme = np.array([[np.float32(1e-45), -0.0, 3.4e38, np.pi]], dtype=np.float32)
    vectors = np.vstack([VECTORS[:2], extreme])
    assert embeddings.write(path, IDS, vectors, RECORD, trial=[0, 3, 0]) == path
    read = embeddings.read(path)
    assert read.sample_id.tolist() == IDS
    assert read.trial.tolist() == [0, 3, 0]
    assert read.trial.dtype == np.int32
    assert read.vectors.dtype == np.float32
    assert read.vectors.tobytes() == vectors.tobytes()
    assert read.provenance == RECORD


def test_file_holds_fixed_size_lists_of_float32_and_its_provenance(path):
    embeddings.write(path, IDS, VECTORS, RECORD)
    stored = pq.ParquetFile(path)
    schema = stored.schema_arrow
    assert schema.names == ["sample_id", "trial", "embedding"]
    assert [schema.field(name).type for name in schema.names[:2]] == [pa.string(), pa.int32()]
    kind = schema.field("embedding").type
    assert pa.types.is_fixed_size_list(kind)
    assert (kind.list_size, kind.value_type) == (4, pa.float32())
    assert stored.metadata.num_row_groups == 1
    assert json.loads(schema.metadata[artefacts.PROVENANCE]) == RECORD


def test_second_write_gives_the_same_bytes_and_leaves_nothing_else(path):
    first = embeddings.write(path, IDS, VECTORS, RECORD).read_bytes()
    assert embeddings.write(path, IDS, VECTORS.copy(), dict(reversed(RECORD.items()))).read_bytes() == first
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "given",
    [
        VECTORS.astype(np.float64),
        np.asfortranarray(VECTORS),
        list(VECTORS),
        [vector[np.newaxis] for vector in VECTORS],
        VECTORS.tolist(),
        np.repeat(VECTORS, 2, axis=1)[:, ::2],
    ],
    ids=["float64", "Fortran order", "list of vectors", "batches of one", "lists", "strided"],
)
def test_vectors_may_be_given_in_any_layout(path, given):
    embeddings.write(path, np.array(IDS), given, {})
    np.testing.assert_array_equal(embeddings.read(path).vectors, VECTORS)


def test_table_without_provenance_is_read(path):
    path.parent.mkdir(parents=True)
    pq.write_table(table_of(VECTORS), path)
    assert embeddings.read(path).provenance == {}


def test_vectors_are_a_view_of_arrows_memory(path):
    big = np.random.default_rng(0).normal(size=(16_000, 512)).astype(np.float32)  # 33 MB
    embeddings.write(path, [f"s{i}" for i in range(len(big))], big, RECORD)
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    read = embeddings.read(path)
    in_arrow = pa.total_allocated_bytes() - before
    in_numpy, peak_numpy = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert big.nbytes <= in_arrow < 1.5 * big.nbytes  # once, and in Arrow
    assert in_numpy < 0.2 * big.nbytes  # identifiers
    assert peak_numpy < 0.6 * big.nbytes  # a yes or no for each number while it is checked
    assert not read.vectors.flags.owndata
    assert not read.vectors.flags.writeable
    assert read.vectors.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        read.vectors[0, 0] = 0
    del read
    assert pa.total_allocated_bytes() - before < 0.1 * big.nbytes


def test_several_row_groups_of_another_writer_are_read(path):
    path.parent.mkdir(parents=True)
    pq.write_table(table_of(VECTORS), path, row_group_size=2)
    read = embeddings.read(path)
    np.testing.assert_array_equal(read.vectors, VECTORS)
    assert read.sample_id.tolist() == IDS


# Tables that are refused on writing


def broken_row(value):
    vectors = VECTORS.astype(np.float64)
    vectors[1, 2] = value
    return vectors


@pytest.mark.parametrize(
    ("ids", "vectors", "trial", "fault"),
    [
        (IDS, broken_row(np.nan), None, "1 embeddings hold NaN or infinity: 007"),
        (IDS, broken_row(np.inf), None, "1 embeddings hold NaN or infinity: 007"),
        (IDS, broken_row(-np.inf), None, "1 embeddings hold NaN or infinity: 007"),
        (IDS, VECTORS * [[1], [0], [1]], None, "1 embeddings are zero throughout: 007"),
        (IDS, [VECTORS[0], VECTORS[1][:3], VECTORS[2]], None, "1 embeddings are not of length 4: 007"),
        (IDS[:2], [VECTORS[0][:2], VECTORS[1]], None, "1 embeddings are not of length 2: 007"),
        (["b", "007", "007"], VECTORS, None, "1 duplicate sample_id and trial: 007"),
        (["b", "007", "007"], VECTORS, [0, 2, 2], "1 duplicate sample_id and trial: 007"),
        (["b", None, "a"], VECTORS, None, "1 sample_id are no text, the first in row 1: None"),
        (["b", np.nan, ""], VECTORS, None, "2 sample_id are no text, the first in row 1: nan"),
        (["b", "", "a"], VECTORS, None, "1 sample_id are no text, the first in row 1: ''"),
        ([1, 2, 3], VECTORS, None, "3 sample_id are no text, the first in row 0: 1"),
        ([], [], None, "no embeddings"),
        ([], np.empty((0, 4)), None, "no embeddings"),
        (IDS[:2], VECTORS, None, "2 sample_id but 3 embeddings"),
        (IDS, VECTORS, [0, 1], "3 sample_id but 2 trials"),
    ],
)
def test_faulty_table_is_not_written(path, ids, vectors, trial, fault):
    assert refused(embeddings.write, path, ids, vectors, RECORD, trial) == f"{path}: {fault}"
    assert not path.exists()


def test_number_too_large_for_float32_is_told(path):
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert refused(embeddings.write, path, IDS, broken_row(1e300), RECORD).endswith("hold NaN or infinity: 007")


def test_long_lists_of_samples_are_cut(path):
    ids = [f"s{i}" for i in range(8)]
    fault = refused(embeddings.write, path, ids, np.zeros((8, 2)), RECORD)
    assert fault == f"{path}: 8 embeddings are zero throughout: s0, s1, s2, s3, s4 and 3 more"


def test_the_old_table_stays_when_the_new_one_is_faulty(path):
    old = embeddings.write(path, IDS, VECTORS, RECORD).read_bytes()
    refused(embeddings.write, path, IDS, broken_row(np.nan), RECORD)
    assert path.read_bytes() == old


# Tables that are refused on reading


def table_of(vectors, ids=IDS, trial=(0, 0, 0), kind=None, mask=None):
    values = pa.array(np.ravel(vectors), kind or pa.float32())
    column = pa.FixedSizeListArray.from_arrays(values, 4, mask=mask)
    return pa.table({"sample_id": pa.array(ids), "trial": pa.array(trial, pa.int32()), "embedding": column})


COMPLETE = table_of(VECTORS)
LISTS = pa.array(VECTORS.tolist(), pa.list_(pa.float32()))


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (COMPLETE.drop_columns("embedding"), 'not an embedding table.*"embedding"'),
        (COMPLETE.drop_columns("sample_id"), 'not an embedding table.*"sample_id"'),
        (COMPLETE.drop_columns("trial"), 'not an embedding table.*"trial"'),
        (COMPLETE.set_column(2, "embedding", LISTS), "embedding is list.*, not a fixed-size list of float32"),
        (table_of(VECTORS, kind=pa.float64()), "embedding is .*double.*, not a fixed-size list of float32"),
        (table_of(VECTORS, mask=pa.array([False, True, False])), "nulls in trial or embedding"),
        (table_of([1.0, None, *range(10)]), "nulls in trial or embedding"),
        (table_of(VECTORS, trial=(0, None, 0)), "nulls in trial or embedding"),
        (table_of(broken_row(np.nan)), "1 embeddings hold NaN or infinity: 007"),
        (table_of(VECTORS * [[1], [0], [1]]), "1 embeddings are zero throughout: 007"),
        (table_of(VECTORS, ids=["b", "b", "a"]), "1 duplicate sample_id and trial: b"),
        (table_of(VECTORS, ids=["b", None, "a"]), "1 sample_id are no text, the first in row 1: None"),
        (table_of(VECTORS, ids=[1, 2, 3]), "3 sample_id are no text"),
        (COMPLETE.slice(0, 0), "no embeddings"),
    ],
)
def test_faulty_table_is_not_read(tmp_path, table, fault):
    path = tmp_path / "fmcib.parquet"
    pq.write_table(table, path)
    with pytest.raises(EmbeddingError, match=fault) as caught:
        embeddings.read(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
def test_truncated_file_is_not_read(path, part):
    whole = embeddings.write(path, IDS, VECTORS, RECORD).read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    assert refused(embeddings.read, path).startswith(f"{path}: truncated, or not an embedding table")


def test_file_of_another_format_is_not_read(tmp_path):
    path = tmp_path / "fmcib.parquet"
    path.write_text("sample_id,trial,embedding\n")
    assert refused(embeddings.read, path).startswith(f"{path}: truncated, or not an embedding table")


def test_missing_file_is_named(path):
    assert refused(embeddings.read, path) == f"{path}: no such embedding table"


# Joining with annotations


def test_join_is_in_the_order_of_the_annotations(path):
    ids, vectors = numbered("a", "b", "c", "d")
    embeddings.write(path, ids, vectors, {})
    joined = embeddings.join(embeddings.read(path), annotated("d", "x", "b", "y", "a"))
    assert joined.annotations["sample_id"].tolist() == ["d", "b", "a"]
    assert joined.annotations["clinical_row"].tolist() == [0, 2, 4]
    assert joined.annotations.index.tolist() == [0, 1, 2]
    assert joined.vectors[:, 0].tolist() == [4, 2, 1]
    assert joined.unmatched.to_dict("list") == {
        "sample_id": ["x", "y", "c"],
        "missing_from": ["embeddings", "embeddings", "annotations"],
    }


def test_join_of_tables_that_match_leaves_nothing(path):
    embeddings.write(path, *numbered("a", "b"), {})
    joined = embeddings.join(embeddings.read(path), annotated("a", "b"))
    assert joined.unmatched.empty
    assert joined.unmatched.columns.tolist() == ["sample_id", "missing_from"]


def test_identifiers_are_compared_as_text(path):
    embeddings.write(path, *numbered("7", "007"), {})
    assert embeddings.join(embeddings.read(path), annotated("007")).vectors[:, 0].tolist() == [2]


def test_join_takes_the_wanted_trial(path):
    ids, vectors = numbered("a", "b", "a", "b", "c")
    embeddings.write(path, ids, vectors, {}, trial=[0, 0, 1, 1, 1])
    table = embeddings.read(path)
    assert embeddings.join(table, annotated("b", "a")).vectors[:, 0].tolist() == [2, 1]
    first = embeddings.join(table, annotated("b", "a", "d"), trial=1)
    assert first.vectors[:, 0].tolist() == [4, 3]
    assert first.unmatched["sample_id"].tolist() == ["d", "c"]
    none = refused(embeddings.join, table, annotated("b"), trial=2)
    assert none == "embeddings: no sample_id in common: annotations have b; embeddings of trial 2 have none"


def test_nothing_in_common_shows_both_sides(path):
    embeddings.write(path, *numbered(*"abcdefg"), {})
    fault = refused(embeddings.join, embeddings.read(path), annotated("x", "y"))
    assert "annotations have x, y; embeddings of trial 0 have a, b, c, d, e and 2 more" in fault


# Several models


@pytest.fixture
def run(tmp_path):
    """Three models with different samples missing, and wide, a fourth, that shares none with the annotations."""
    for model, names in {"fmcib": "abcd", "ct_fm": "edcb", "merlin": "cbxa", "wide": "xyz"}.items():
        ids, vectors = numbered(*names)
        width = 3 if model == "fmcib" else 2
        record = {"model": model}
        embeddings.write(embeddings.path_of(tmp_path, "luna16", model), ids, vectors[:, :width], record)
    return tmp_path


def test_load_keeps_the_samples_that_all_models_have(run):
    joined, provenance = embeddings.load(run, "luna16", ["fmcib", "ct_fm", "merlin"], annotated(*"dcba"))
    assert joined.annotations["sample_id"].tolist() == ["c", "b"]
    assert joined.annotations["clinical_row"].tolist() == [1, 2]
    assert {model: vectors[:, 0].tolist() for model, vectors in joined.vectors.items()} == {
        "fmcib": [3, 2],
        "ct_fm": [3, 4],
        "merlin": [1, 2],
    }
    assert joined.vectors["fmcib"].shape == (2, 3)
    assert sorted(joined.unmatched.itertuples(index=False, name=None)) == [
        ("a", "embeddings", "ct_fm"),
        ("d", "embeddings", "merlin"),
        ("e", "annotations", "ct_fm"),
        ("x", "annotations", "merlin"),
    ]
    assert provenance == {model: {"model": model} for model in ("fmcib", "ct_fm", "merlin")}


def test_load_of_models_that_share_no_sample(run):
    embeddings.write(embeddings.path_of(run, "luna16", "voco"), *numbered("a"), {})
    fault = refused(embeddings.load, run, "luna16", ["ct_fm", "voco"], annotated(*"abcd"))
    assert fault == "luna16: no sample has embeddings of all of ct_fm, voco"


def test_load_names_the_file_that_has_nothing_in_common(run):
    fault = refused(embeddings.load, run, "luna16", ["fmcib", "wide"], annotated(*"abcd"))
    assert fault.startswith(f"{embeddings.path_of(run, 'luna16', 'wide')}: no sample_id in common")


def test_load_names_the_file_that_is_missing(run):
    fault = refused(embeddings.load, run, "luna16", ["fmcib", "suprem"], annotated(*"abcd"))
    assert fault == f"luna16: no embeddings of suprem in {run}. There are: ct_fm, fmcib, merlin, wide"


def raw_features():
    """Features of four units: one constant, one of many thousands, one of thousandths."""
    rng = np.random.default_rng(0)
    return np.column_stack([rng.normal(5e6, 1e4, 9), np.full(9, 0.1), rng.normal(0, 1e-3, 9), rng.normal(-40, 3, 9)])


def test_load_standardises_a_table_that_says_so_over_the_samples_used(run):
    names, raw = [f"s{number}" for number in range(9)], raw_features()
    embeddings.write(embeddings.path_of(run, "own", "raw"), names, raw, {"parameters": {"standardise": True}})
    embeddings.write(
        embeddings.path_of(run, "own", "other"), names[:7], raw[:7], {"parameters": {"standardise": False}}
    )
    joined, _ = embeddings.load(run, "own", ["raw", "other"], annotated(*names[::-1]))
    found = joined.vectors["raw"]
    assert found.shape == (7, 4) and found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=0), [1, 0, 1, 1], atol=1e-6)
    assert (found[:, 1] == 0).all()
    single = raw.astype(np.float32).astype(np.float64)[6::-1]
    expected = (single - single.mean(axis=0)) / np.where(single.std(axis=0) < 1e-9, 1, single.std(axis=0))
    np.testing.assert_allclose(found[:, [0, 2, 3]], expected[:, [0, 2, 3]], atol=1e-4)
    np.testing.assert_array_equal(joined.vectors["other"], raw[6::-1].astype(np.float32))
    alone = embeddings.load(run, "own", ["raw"], annotated(*names))[0].vectors["raw"]
    assert np.abs(alone[:7] - found[::-1]).max() > 0.01  # of nine samples, not of seven


def test_raw_features_can_be_loaded_as_they_are_and_scaled_by_another_cohort(run):
    names, raw = [f"s{number}" for number in range(9)], raw_features().astype(np.float32)
    embeddings.write(embeddings.path_of(run, "own", "raw"), names, raw, {"parameters": {"standardise": True}})
    joined, records = embeddings.load(run, "own", ["raw"], annotated(*names), scaled=False)
    np.testing.assert_array_equal(joined.vectors["raw"], raw)
    assert embeddings.is_raw(records["raw"]) and not embeddings.is_raw(RECORD)
    scaled = embeddings.standardised(raw, raw[:5])
    first = StandardScaler().fit(raw[:5, [0, 2, 3]].astype(np.float64))
    np.testing.assert_allclose(scaled[:, [0, 2, 3]], first.transform(raw[:, [0, 2, 3]]), rtol=1e-4, atol=1e-4)
    assert (scaled[:, 1] == 0).all() and scaled.dtype == np.float32


def test_coverage_counts_what_either_side_lacks(run):
    joined, _ = embeddings.load(run, "luna16", ["fmcib", "ct_fm", "merlin"], annotated(*"dcbaq"))
    assert embeddings.coverage(joined).to_dict("records") == [
        _covered("fmcib", 3, without_annotation=0, without_embedding=1),
        _covered("ct_fm", 2, without_annotation=1, without_embedding=2),
        _covered("merlin", 2, without_annotation=1, without_embedding=2),
    ]


def test_coverage_of_tables_that_match(run):
    joined, _ = embeddings.load(run, "luna16", ["fmcib"], annotated(*"abcd"))
    expected = _covered("fmcib", 3, without_annotation=0, without_embedding=0) | {"samples used": 4}
    assert embeddings.coverage(joined).to_dict("records") == [expected]


def _covered(model, dimensions, without_annotation, without_embedding):
    return {
        "embeddings": model,
        "dimensions": dimensions,
        "samples used": 2,
        "without annotation": without_annotation,
        "without embedding": without_embedding,
    }


def test_trials_lie_side_by_side_and_incomplete_samples_are_listed():
    names = ["b", "a", "c", "a", "b", "a", "b"]
    trials = [0, 0, 0, 2, 2, 1, 1]
    vectors = np.arange(14, dtype=np.float32).reshape(7, 2) + 1
    found = embeddings.by_trial(embeddings.EmbeddingTable(np.array(names, object), np.array(trials), vectors, {}))
    assert list(found.sample_id) == ["b", "a"] and list(found.trial) == [0, 1, 2]
    for t, trial in enumerate(found.trial):
        for n, name in enumerate(found.sample_id):
            row = next(i for i in range(7) if (names[i], trials[i]) == (name, trial))
            assert (found.vectors[t, n] == vectors[row]).all()
    assert found.incomplete.to_numpy().tolist() == [["c", 1], ["c", 2]]
