"""Quality against bytes, drawn."""

from pathlib import Path
from typing import Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from pipelines.errors import StorageError
from pipelines.evaluate.rank import Kind
from pipelines.evaluate.report import Report

# By type: one of Okabe and Ito's colours, told apart by those who see fewer of them; a mark, for print in
# grey; and where the dimension is written beside a mark, so that types which lie close do not cover each
# other's.
_STYLES: dict[Kind, tuple[str, str, tuple[int, int], Literal["left", "center", "right"]]] = {
    "float32": ("#000000", "o", (3, -10), "left"),
    "float16": ("#56b4e9", "s", (-3, -10), "right"),
    "int8": ("#009e73", "^", (0, 6), "center"),
    "binary": ("#d55e00", "v", (0, -12), "center"),
    "binary+rerank": ("#cc79a7", "D", (0, 7), "center"),
}


def quality_figure(report: Report) -> Figure:
    """nDCG@10 against the bytes of a document that a search goes through: a line a type, and BM25's level."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)  # no display is asked for
    axes = figure.add_subplot()
    for kind in dict.fromkeys(row.kind for row in report.rows):
        rows = sorted((row for row in report.rows if row.kind == kind), key=lambda row: row.bytes)
        colour, mark, offset, side = _STYLES[kind]
        places = [(row.bytes, row.scores.ndcg) for row in rows]
        axes.plot(*zip(*places, strict=True), color=colour, marker=mark, label=kind)
        for row, place in zip(rows, places, strict=True):
            axes.annotate(
                str(row.dim), place, offset, textcoords="offset points", ha=side, fontsize=7, color=colour
            )
    axes.axhline(report.bm25.ndcg, color="#888888", linestyle="--", linewidth=1, label="BM25")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("bytes of a document that a search goes through")
    axes.set_ylabel("nDCG@10")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.03)  # room for what is written above the highest mark
    axes.grid(alpha=0.25)
    rotated = ", rotated to the corpus" if any(row.rotated for row in report.rows) else ""
    axes.set_title(
        f"{report.model}{rotated}: {report.documents:,} documents, {report.queries:,} queries", fontsize=10
    )
    axes.legend(loc="lower right", fontsize=8)
    return figure


def save_plot(report: Report, name: Path) -> tuple[Path, Path]:
    """Draws the report to NAME.png and NAME.svg, and gives the two paths; an ending of the two is left off.

    Raises:
        StorageError: They cannot be written.
    """
    figure = quality_figure(report)
    name = name.with_suffix("") if name.suffix in (".png", ".svg") else name
    png, svg = (name.with_name(f"{name.name}.{ending}") for ending in ("png", "svg"))
    try:
        figure.savefig(png, dpi=150)
        figure.savefig(svg)
    except OSError as error:
        raise StorageError(f"{name} cannot be written: {error.strerror}") from error
    return png, svg
