# SPDX-License-Identifier: Apache-2.0
"""The report of an inspection as one HTML page that needs nothing else."""

import html
import math
import os

from tfseg import inspection_pictures as pictures
from tfseg.data.checks import kinds

# Findings of one kind that the page lists, and that it pictures.
_LISTED, _PICTURED = 50, 4
_MOST_PICTURES, _NORMAL = 32, 8
# Of all pictures together, characters.
_MOST_CHARACTERS = 1_500_000
_PAIRS = ("exact_leak", "near_leak", "exact_repeat", "near_repeat")
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882;
  --error: #d33; --warning: #c80; --note: #48c; --bar: #48c; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem;
  margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
.error, .warning, .note { color: #fff; border-radius: .3rem;
  padding: .05rem .45rem; font-size: .85em; }
.error { background: var(--error); } .warning { background: var(--warning); }
.note { background: var(--note); }
li { margin: .35rem 0; overflow-wrap: anywhere; }
.fix { opacity: .8; }
code { font-size: .92em; background: var(--soft); padding: 0 .2em; }
figure { display: inline-block; margin: .3rem .8rem .6rem 0;
  vertical-align: top; }
figure img { margin-right: 3px; vertical-align: top; }
figcaption { font-size: .8em; max-width: 486px; overflow-wrap: anywhere; }
table { border-collapse: collapse; } td, th { padding: .15rem .6rem;
  text-align: left; border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { width: 14rem; } .bar div { background: var(--bar); height: .55rem; }
.bar div + div { background: var(--warning); margin-top: 2px; }
.swatch { display: inline-block; width: .9em; height: .9em;
  border: 1px solid var(--line); vertical-align: -.1em; }
svg { max-width: 100%; height: auto; } svg text { fill: currentColor;
  font: 12px system-ui, sans-serif; }
"""


def write(path, report, dataset):
    """Writes the page beside and renames it.

    Args:
      path: file to write.
      report: dict, see inspection.inspect.
      dataset: datasets.base.Dataset, for the pictures.
    """
    partial = f"{path}.partial"
    # Names of files may be no UTF-8.
    with open(
        partial, "w", encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(render(report, dataset))
    os.replace(partial, path)


def render(report, dataset):
    """The page as text, see `write`."""
    name = html.escape(f"{report['data']['name']} {report['data']['dir']}")
    body = [
        f"<h1>Inspection of {name}</h1>",
        _summary(report),
        _findings(report, _Album(dataset)),
        _classes(report["classes"]),
        _sizes(report["sizes"]),
        _normal(report, dataset),
        _versions(report),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Inspection of {name}</title>\n"
        f"<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(filter(None, body))
        + "\n</body></html>\n"
    )


class _Album:
    """Draws pictures of findings until the page is full."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.characters = self.count = 0
        self.records = {}
        for record in dataset.records.values():
            self.records[record.image] = record
            if record.label:
                self.records.setdefault(record.label, record)

    def of_finding(self, finding):
        """A <figure>, "" where there is nothing to see or no room."""
        file, other = finding["file"], finding["value"]
        if self.count >= _MOST_PICTURES or file not in self.records:
            return ""
        if finding["kind"] == "contradiction":
            pair = [self._draw(self.records[x]) for x in (file, other)]
            return self._figure(sum(pair, []), f"{file} | {other}")
        if finding["kind"] in _PAIRS:
            uris = pictures.of_images([file, other])
            return self._figure(uris, f"{file} | {other}")
        return self._figure(self._draw(self.records[file]), file)

    def of_record(self, record):
        return self._figure(self._draw(record), record.id)

    def _draw(self, record):
        dataset = self.dataset
        return pictures.of_record(record, dataset.info, dataset.mask_code)

    def _figure(self, uris, caption):
        characters = sum(len(uri) for uri in uris)
        if not uris or self.characters + characters > _MOST_CHARACTERS:
            return ""
        self.characters += characters
        self.count += 1
        caption = html.escape(caption)
        images = "".join(f'<img src="{uri}" alt="{caption}">' for uri in uris)
        return f"<figure>{images}<figcaption>{caption}</figcaption></figure>"


def _summary(report):
    counts, split = report["counts"], report["split"]
    badges = " ".join(
        f'<span class="{severity}">{counts[severity]:,} {severity}s</span>'
        for severity in kinds.SEVERITIES
    )
    lines = [
        f"<p>{badges}</p>",
        f"<p>{counts['images']:,} images, {counts['labeled']:,} of them with "
        f"a mask, read in {report['seconds']:g} s.</p>",
    ]
    if split:
        parts = ", ".join(
            f"{split[part]:,} {part}"
            for part in ("labeled", "unlabeled", "validation", "test")
        )
        digest = split["digest"]
        note = f", digest <code>{digest}</code>" if digest else ""
        lines.append(f"<p>Split: {parts}{note}.</p>")
    return "\n".join(lines)


def _findings(report, album):
    if not report["findings"]:
        return "<h2>Findings</h2><p>None.</p>"
    blocks = [
        "<h2>Findings</h2>\n<p>Pictures show the image and its mask over the "
        "image in gray: magenta is no class, ignored pixels have no color.</p>"
    ]
    for kind, found in kinds.grouped(report["findings"]).items():
        severity, heading = kinds.KINDS[kind]
        items = "\n".join(_item(finding) for finding in found[:_LISTED])
        more = len(found) - _LISTED
        rest = f"<p>{more:,} more in inspection.json.</p>" if more > 0 else ""
        shown = "".join(album.of_finding(x) for x in found[:_PICTURED])
        blocks.append(
            f'<h3><span class="{severity}">{severity}</span> '
            f"{html.escape(heading)} ({len(found):,})</h3>\n{shown}\n"
            f"<details{' open' if len(found) <= 10 else ''}><summary>Files"
            f"</summary><ul>\n{items}\n</ul>{rest}</details>"
        )
    return "\n".join(blocks)


def _item(finding):
    file, message, fix = (
        html.escape(str(finding[key])) for key in ("file", "message", "fix")
    )
    return (
        f'<li><code>{file}</code>: {message}. <span class="fix">Fix: {fix}.'
        "</span></li>"
    )


def _classes(classes):
    if not classes:
        return ""
    rows = "\n".join(_class_row(x) for x in classes)
    return (
        "<h2>Classes</h2>\n<p>Share of the labeled pixels, ignored ones not "
        "counted; bars: training above, validation below.</p>\n<table>"
        "<tr><th>class</th><th></th><th>training</th><th>validation</th>"
        f"<th>all</th><th>masks</th></tr>\n{rows}\n</table>"
    )


def _class_row(x):
    shares = [x["share_training"], x["share_validation"]]
    bars = "".join(
        f'<div style="width:{100 * (share or 0):.2f}%"></div>'
        for share in shares
    )
    red, green, blue = x["color"]
    cells = "".join(
        f'<td class="number">{_percent(share)}</td>'
        for share in (*shares, x["share"])
    )
    return (
        f'<tr><td><span class="swatch" style="background:rgb({red},{green},'
        f'{blue})"></span> {x["label"]} {html.escape(x["name"])}</td>'
        f'<td class="bar">{bars}</td>{cells}'
        f'<td class="number">{x["masks"]:,}</td></tr>'
    )


def _percent(share):
    return "-" if share is None else f"{share:.2%}"


def _normal(report, dataset):
    """A few images that nothing was found in, from all over the data set."""
    found = {finding["file"] for finding in report["findings"]}
    records = [
        record
        for record in dataset.records.values()
        if not {record.image, record.label} & found
    ]
    records = [x for x in records if x.label] or records
    if not records:
        return ""
    step = -(-len(records) // _NORMAL)
    album = _Album(dataset)
    shown = "".join(album.of_record(record) for record in records[::step])
    return f"<h2>Examples without a finding</h2>\n{shown}"


def _versions(report):
    names = ", ".join(
        f"{name} {version or '-'}"
        for name, version in report["versions"].items()
    )
    return f'<p class="fix">{html.escape(names)}</p>'


# Size of the plot and its margins, and of its largest dot, pixels.
_SIDE, _MARGIN, _DOT = 400, 52, 14
_TOP = 16
_MOST_DOTS = 400


def _sizes(sizes):
    """Width against height on logarithmic axes, and the crop."""
    images = sizes["images"]
    if not images:
        return ""
    height, width = sizes["crop"]
    total = sum(count for _, _, count in images)
    edges = [side for h, w, _ in images for side in (h, w)] + [height, width]
    low = max(1, 2 ** math.floor(math.log2(min(edges)) - 0.1))
    high = 2 ** math.ceil(math.log2(max(edges)) + 0.1)
    plot = _Plot(low, high)
    return (
        f"<h2>Image sizes</h2>\n<p>{len(images):,} different sizes of "
        f"{total:,} images; the area of a dot grows with their number. "
        f"{sizes['smaller_than_crop']:,} images are smaller than the crop of "
        f"{width} x {height} (width x height) and are padded: they lie in the "
        f"shaded part.</p>\n{plot.render(images[:_MOST_DOTS], height, width)}"
    )


class _Plot:
    """Logarithmic axes from `low` to `high` pixels, as SVG."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def place(self, value):
        """Pixels from the lower left corner."""
        turns = math.log2(value / self.low) / math.log2(self.high / self.low)
        return turns * _SIDE

    def render(self, images, crop_height, crop_width):
        most = max(count for _, _, count in images)
        dots = "".join(
            f'<circle cx="{self._x(width):.1f}" cy="{self._y(height):.1f}" '
            f'r="{max(2.5, _DOT * math.sqrt(count / most)):.1f}" '
            f'fill="var(--bar)" fill-opacity=".55" stroke="var(--bar)">'
            f"<title>{width} x {height}: {count:,} images</title></circle>"
            for height, width, count in images
        )
        full, height = _SIDE + 2 * _MARGIN, _TOP + _SIDE + _MARGIN
        return (
            f'<svg width="{full}" height="{height}" '
            f'viewBox="0 0 {full} {height}" '
            'role="img" aria-label="width and height of the images">'
            f"{self._crop(crop_height, crop_width)}{self._axes()}{dots}</svg>"
        )

    def _x(self, width):
        return _MARGIN + self.place(width)

    def _y(self, height):
        return _TOP + _SIDE - self.place(height)

    def _crop(self, height, width):
        right, top = self._x(width), self._y(height)
        bottom, end = _TOP + _SIDE, _MARGIN + _SIDE
        return (
            f'<path fill="currentColor" fill-opacity=".09" d="M{_MARGIN} '
            f"{_TOP}H{right:.1f}V{top:.1f}H{end}V{bottom}H{_MARGIN}Z"
            '"/>'
            f'<path fill="none" stroke="var(--error)" stroke-width="2" '
            f'stroke-dasharray="6 4" d="M{_MARGIN} {top:.1f}H{right:.1f}'
            f'V{bottom}"/>'
            f'<text x="{right + 5:.1f}" y="{top - 6:.1f}" '
            f'style="fill:var(--error)">crop {width} x {height}</text>'
        )

    def _axes(self):
        bottom, middle = _TOP + _SIDE, _TOP + _SIDE / 2
        parts = [
            f'<path fill="none" stroke="currentColor" d="M{_MARGIN} {_TOP}'
            f'V{bottom}H{_MARGIN + _SIDE}"/>',
            f'<text x="{_MARGIN + _SIDE / 2}" y="{bottom + 38}" '
            'text-anchor="middle">width, pixels</text>',
            f'<text x="14" y="{middle}" text-anchor="middle" '
            f'transform="rotate(-90 14 {middle})">height, pixels</text>',
        ]
        tick = self.low
        while tick <= self.high:
            x, y = self._x(tick), self._y(tick)
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">'
                f'{tick}</text><text x="{_MARGIN - 6}" y="{y + 4:.1f}" '
                f'text-anchor="end">{tick}</text>'
            )
            tick *= 2
        return "".join(parts)
