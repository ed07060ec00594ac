"""Layer tables: what rows mean, and every fault of a hostile file with its line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.errors import UserError
from h4hc.layer_kinds import KINDS, USES
from h4hc.layer_table import MOST_ROWS, MOST_SIZE, read_layers
from h4hc.workload import ConvParams, MatmulParams, OpKind, PoolParams, VectorParams

CSV = Path(__file__).parent / "data" / "ethos_u55_layers.csv"
HEAD = "layer,kind,h,w,cin,cout"


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "layers.csv"
    path.write_text(text)
    return path


def _faults(tmp_path: Path, text: str) -> list[tuple[str, str]]:
    """(line of the file, what is wrong) of every problem."""
    with pytest.raises(UserError) as caught:
        read_layers(_file(tmp_path, text))
    assert caught.value.exit_code == 2
    return [(p.where[0].removeprefix("layers.csv:") if p.where else "", p.what) for p in caught.value.problems]


def test_macs_and_outputs_of_the_vendor_table() -> None:
    """MACs as the vendor's tool counted them for weighted layers; pooling and matmul by their own formulas."""
    table = read_layers(CSV)
    assert len(table.rows) == 212
    with CSV.open() as file:
        lines = file.read().splitlines()
    for row in table.rows:
        assert lines[row.line - 1].startswith(f"{row.layer},{row.kind},")
        op, cells = row.workload.ops[0], dict(row.cells)
        if row.kind in ("conv", "dwconv", "fc"):
            assert op.macs == int(cells["macs"]), row.layer
            assert op.weight_bytes == int(cells["w_orig_bytes"]) or row.kind != "fc", row.layer
        if isinstance(op.params, MatmulParams):
            assert op.macs == int(cells["macs"]), row.layer
        if isinstance(op.params, PoolParams):
            window = op.params.kernel[0] * op.params.kernel[1] * op.params.out_spatial[0] * op.params.out_spatial[1]
            assert window * op.params.channels == int(cells["macs"]), row.layer
        assert row.reference("total") == float(cells["total_cycles"])
        assert row.reference("flash") == float(cells["offflash_cycles"])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_one_consistent_operator(tmp_path: Path, kind: str) -> None:
    sizes = {"kh": 3, "kw": 3, "stride": 2, "groups": 2}
    cells = ",".join(str(n) if c in USES.get(kind, ()) else "" for c, n in sizes.items())
    path = _file(tmp_path, f"{HEAD},{','.join(sizes)}\na,{kind},6,5,8,8,{cells}\n")
    (row,) = read_layers(path).rows
    (op,) = row.workload.ops
    size = {t.name: t.size_bytes for t in row.workload.tensors}
    assert op.input_bytes == sum(size[n] for n in op.inputs)
    assert op.output_bytes == sum(size[n] for n in op.outputs)
    assert op.weight_bytes == sum(size[n] for n in op.weights)
    assert all(t.elements == t.size_bytes for t in row.workload.tensors)


def test_padding_dilation_and_means(tmp_path: Path) -> None:
    text = f"{HEAD},kh,kw,stride,dil,pad,axes\n# comment\n\n"
    text += "s,conv,7,8,4,4,3,3,2,2,,\nv,conv,7,8,4,4,3,3,2,2,VALID,\nm,mean,7,8,4,4,,,,,,\nc,mean,7,8,4,4,,,,,,c\n"
    text += "mean_c_x,mean,7,8,4,4,,,,,,\n"
    same, valid, mean, channels, named = (row.workload.ops[0] for row in read_layers(_file(tmp_path, text)).rows)
    assert isinstance(same.params, ConvParams)
    assert (same.params.out_spatial, same.params.pads) == ((4, 4), (2, 1, 2, 2))
    assert isinstance(valid.params, ConvParams)
    assert (valid.params.out_spatial, valid.params.pads) == ((2, 2), (0, 0, 0, 0))
    assert isinstance(mean.params, VectorParams)
    assert (mean.params.rows, mean.params.length) == (4, 56)
    assert mean.kind is OpKind.REDUCE
    assert channels.params == named.params == VectorParams("vector", "mean", 56, 4)


def test_all_faults_of_a_file_at_once_with_their_lines(tmp_path: Path) -> None:
    rows = [
        "# a comment counts as a line",
        f"{HEAD},kh,stride,pad,total_cycles,groups",
        "a,conv,-1,x,1e3,4,1,,,,",
        f"b,conv,0,{MOST_SIZE + 1},99999999999999999999,4,1,,,,",
        "c,warp,1,1,1,1,,,,,",
        ",fc,1,1,1,1,,,,,",
        "e,conv,4,4,4,4,9,1,VALID,,",
        "f,conv,4,4,4,4,1,1,valid,nan,",
        "g,conv,4,4,4,4",
        "h,grouped_conv,4,4,9,9,3,1,,,2",
        "i,conv,٤,4,4,4,1,,,,",
        "j,conv,4,4,,4,,,,,",
    ]
    assert _faults(tmp_path, "\n".join(rows)) == [
        ("3", "h is '-1'"),
        ("3", "w is 'x'"),
        ("3", "cin is '1e3'"),
        ("4", "h is '0'"),
        ("4", "w is '65537'"),
        ("4", "cin is '99999999999999999999'"),
        ("5", "there is no layer kind 'warp'"),
        ("6", "the layer has no name"),
        ("7", "the window is larger than the image"),
        ("8", "total_cycles is 'nan'"),
        ("8", "pad 'valid' is neither SAME nor VALID"),
        ("9", "6 cells in a row of a table with 11 columns"),
        ("10", "2 groups do not divide 9 and 9 channels"),
        ("11", "h is '٤'"),
        ("12", "cin is empty"),
        ("12", "kh is empty"),
    ]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_column_changes_the_layer_or_is_refused(tmp_path: Path, kind: str) -> None:
    """No column is passed over in silence: another value makes another operator, or is told with its line."""
    columns = ("h", "w", "cin", "cout", "kh", "kw", "stride", "dil", "groups", "pad", "axes")
    plain = dict(zip(columns, ("12", "10", "8", "8", "3", "3", "2", "1", "1", "SAME", ""), strict=True))
    if "kh" not in USES.get(kind, ()):
        plain |= {"kh": "", "kw": "", "stride": ""}
    changed = plain | {"h": "6", "w": "5", "cin": "4", "cout": "16", "kh": "5", "kw": "2", "stride": "3", "dil": "2"}
    changed |= {"groups": "4", "pad": "VALID", "axes": "c"}
    head = f"layer,kind,{','.join(columns)}\n"
    (row,) = read_layers(_file(tmp_path, f"{head}a,{kind},{','.join(plain.values())}\n")).rows
    for column, value in changed.items():
        cells = plain | {column: value}
        if column == "cin" and "cout" not in USES.get(kind, ()):
            cells["cout"] = value
        path = _file(tmp_path, f"{head}a,{kind},{','.join(cells.values())}\n")
        try:
            (other,) = read_layers(path).rows
        except UserError as caught:
            told = [(p.what, p.where) for p in caught.problems]
        else:
            told = []
        if told:
            assert told == [(f"{kind} has no {column}", ("layers.csv:2",))]
        else:
            assert other.workload != row.workload, column


def test_columns_that_a_kind_does_not_use_are_told_at_once(tmp_path: Path) -> None:
    rows = [
        "a,conv,8,8,8,8,3,1,4,,",
        "b,maxpool,8,8,16,99,3,9,1,,",
        "c,add,8,8,8,8,1,1,1,SAME,",
        "d,fc,1,1,4,8,,,,VALID,c",
    ]
    rows += ["e,dw,8,8,16,24,3,1,1,,", "f,dw,8,8,16,1,3,1,1,,"]
    assert _faults(tmp_path, "\n".join([f"{HEAD},kh,dil,groups,pad,axes", *rows])) == [
        ("2", "conv has no groups"),
        ("3", "maxpool has no cout"),
        ("3", "maxpool has no dil"),
        ("5", "fc has no pad"),
        ("5", "fc has no axes"),
        ("6", "24 outputs of a depthwise layer are no multiple of 16 channels"),
        ("7", "1 outputs of a depthwise layer are no multiple of 16 channels"),
    ]


def test_depthwise_layers_with_several_filters_a_channel(tmp_path: Path) -> None:
    """Two filters a channel: twice the weights, MACs and outputs of one; an empty cout is one."""
    text = f"{HEAD},kh,kw\none,dw,8,8,16,16,3,3\ntwo,dw,8,8,16,32,3,3\nempty,dw,8,8,16,,3,3\n"
    one, two, empty = (row.workload.ops[0] for row in read_layers(_file(tmp_path, text)).rows)
    assert (one.macs, one.weight_bytes, one.output_bytes) == (8 * 8 * 16 * 9, 16 * 9, 8 * 8 * 16)
    assert (two.macs, two.weight_bytes, two.output_bytes) == (2 * one.macs, 2 * one.weight_bytes, 2 * one.output_bytes)
    assert isinstance(two.params, ConvParams)
    assert (two.params.in_channels, two.params.out_channels, two.params.groups) == (16, 32, 16)
    assert empty == one


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_size_that_the_kind_needs_is_not_guessed(tmp_path: Path, kind: str) -> None:
    """A hole in a table is told with its line; a column that the kind does not use, or that is missing, is no hole."""
    columns = ("h", "w", "cin", "cout", "kh", "kw")
    used = [c for c in columns if c in ("h", "w", "cin") or c in USES.get(kind, ())]
    head = f"layer,kind,{','.join(columns)}\n"
    for empty in columns:
        text = f"{head}a,{kind},{','.join('8' if c in used and c != empty else '' for c in columns)}\n"
        if empty in used and (empty, kind) not in (("cout", "dw"), ("cout", "dwconv")):
            assert _faults(tmp_path, text) == [("2", f"{empty} is empty")]
        else:
            assert len(read_layers(_file(tmp_path, text)).rows) == 1
    assert len(read_layers(_file(tmp_path, f"{HEAD}\na,{kind},8,8,8,8\n")).rows) == 1


def test_heads_and_empty_files(tmp_path: Path) -> None:
    assert _faults(tmp_path, "# nothing\n")[0][1] == "the table is empty"
    assert _faults(tmp_path, HEAD)[0][1] == "the table has no layers"
    missing = _faults(tmp_path, "layer,h,w,w\na,1,1,1\n")
    assert [what for _, what in missing] == [
        "the table has no column 'kind'",
        "the table has no column 'cin'",
        "the table has no column 'cout'",
        "column 'w' is there twice",
    ]
    assert _faults(tmp_path, f'{HEAD}\n"a,conv,1,1,1,1\n')[0][1] == "the table is not valid CSV"
    with pytest.raises(UserError, match="not a regular file"):
        read_layers(tmp_path)
    with pytest.raises(UserError, match="cannot read"):
        read_layers(tmp_path / "none.csv")


def test_huge_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_ROWS >= 10_000
    monkeypatch.setattr("h4hc.layer_table.MOST_ROWS", 3)
    assert _faults(tmp_path, f"{HEAD}\n" + "a,fc,1,1,1,1\n" * 4) == [("5", "the table has too many rows")]
    monkeypatch.setattr("h4hc.files.MOST_BYTES", 10)
    assert _faults(tmp_path, f"{HEAD}\na,fc,1,1,1,1\n")[0][1] == "the table is too large"
    monkeypatch.undo()
    most = f"a,conv,{MOST_SIZE},{MOST_SIZE},{MOST_SIZE},1"
    assert _faults(tmp_path, f"{HEAD}\n{most}\n") == [("2", "the layer is too large")]
    path = tmp_path / "binary.csv"
    path.write_bytes(b"layer,kind\n\xff\xfe\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_layers(path)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.text(max_size=6), max_size=8), max_size=4))
def test_any_text_is_a_table_or_a_user_error(cells: list[list[str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
            writer = csv.writer(file)
            writer.writerow(HEAD.split(","))
            writer.writerows(cells)
        try:
            rows = read_layers(path).rows
        except UserError as caught:
            rows, problems = (), caught.problems
        else:
            problems = ()
        assert all(p.where for p in problems)
        assert all(len(row.cells) == 6 for row in rows)
        assert rows or problems


def test_kinds_of_convolutions_are_those_of_lowering(tmp_path: Path) -> None:
    """Else a measured row would never be found again in a network: by groups, one, as many as channels, or between."""
    rows = "a,grouped_conv,8,8,16,16,16\nb,grouped_conv,8,8,16,32,4\nc,grouped_conv,8,8,16,32,1\nd,dw,8,8,1,24,\n"
    table = read_layers(_file(tmp_path, f"{HEAD},groups\n{rows}"))
    kinds = [row.workload.ops[0].kind for row in table.rows]
    assert kinds == [OpKind.DEPTHWISE, OpKind.GROUPED_CONV, OpKind.CONV, OpKind.CONV]


def test_a_mean_is_over_channels_by_its_name_only_where_the_name_says_no_more(tmp_path: Path) -> None:
    """mean_c_ is the vendor study's; mean_cls and mean_conv5 are somebody's names of a mean over positions."""
    rows = "mean_c_x,mean,4,6,8,8\nmean_cls,mean,4,6,8,8\nmean_conv5,mean,4,6,8,8\n"
    found = [row.workload.ops[0].params for row in read_layers(_file(tmp_path, f"{HEAD}\n{rows}")).rows]
    assert [p.length for p in found if isinstance(p, VectorParams)] == [8, 24, 24]
