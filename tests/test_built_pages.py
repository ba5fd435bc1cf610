"""The built pages load nothing from the network and contain no broken links and no pictures without alternative text.

``nox -f .ci/noxfile.py -s docs`` builds and checks them.
"""

import json
import re
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

WIDEST = 88  # columns of code
# Words that people search for, with the pages that they should find.
SEARCHES = {
    "mask": ("pipelines", "labels"),
    "key point": ("geometry", "pipelines"),
    "keypoint": ("geometry", "pipelines"),
    "landmark": ("geometry", "command"),
    "bounding box": ("geometry", "pipelines"),
    "voxel size": ("quickstart", "geometry"),
}
# The attribute of each tag that names what to load.
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href", "object": "data"}


class Page(HTMLParser):
    """The parts of a page that the checks use."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded, self.images = set(), [], [], []
        self.code, self.title = [], ""
        self._in = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.update(attributes[name] for name in ("id", "name") if attributes.get(name))
        if attributes.get(LOADED.get(tag)) and attributes.get("rel") not in ("index", "search", "next", "prev"):
            self.loaded.append(attributes[LOADED[tag]])
        if tag == "img":
            self.images.append(attributes)
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if tag == "pre":
            self.code.append("")
        self._in.append(tag)

    def handle_endtag(self, tag):
        while self._in and self._in.pop() != tag:
            pass

    def handle_data(self, text):
        if "pre" in self._in:
            self.code[-1] += text
        if self._in[-1:] == ["title"] and "head" in self._in:
            self.title += text


@pytest.fixture(scope="module")
def read(pages):
    """Return a function that reads a page, each page only once."""
    return cache(lambda path: Page(path.read_text(encoding="utf-8")))


def every(pages):
    found = sorted(pages.rglob("*.html"))
    assert len(found) > 50
    return found


def test_nothing_comes_from_the_network(pages, read):
    loaded = {(path.name, url) for path in every(pages) for url in read(path).loaded}
    for path in pages.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        loaded |= {(path.name, url) for url in re.findall(r"url\(['\"]?([^'\")]+)|@import ['\"]([^'\"]+)", text)}
    assert not [(name, url) for name, url in loaded if urlsplit(str(url)).netloc]


def test_links_lead_somewhere(pages, read):
    broken = set()
    for path in every(pages):
        for link in (*read(path).links, *read(path).loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target.suffix == ".html" and anchor not in read(target).ids):
                broken.add(f"{path.relative_to(pages)}: {link}")
    assert not broken


def test_pictures_have_words(pages, read):
    bare = {(path.name, image["src"]) for path in every(pages) for image in read(path).images if not image.get("alt")}
    assert not bare


def test_code_is_not_too_wide(pages, read):
    lines = ((path.name, line) for path in every(pages) for block in read(path).code for line in typed(block))
    assert not [(name, line) for name, line in lines if len(line) > WIDEST]


def test_code_is_highlighted(pages):
    assert not [path.name for path in every(pages) if '"literal-block"' in path.read_text(encoding="utf-8")]


def typed(block):
    """Return the lines of a block of code or, if the block has prompts, what follows them."""
    lines = block.splitlines()
    return [line[4:] for line in lines if line.startswith((">>> ", "... "))] if ">>> " in block else lines


def test_titles_differ(pages, read):
    counts = Counter(read(path).title for path in every(pages))
    assert not [title for title, count in counts.items() if count > 1]


def test_words_of_types_are_no_links(pages):
    """Only names of types, which begin with a capital, are links. A word such as shape links to no attribute."""
    text = "".join(path.read_text(encoding="utf-8") for path in every(pages))
    linked = set(re.findall(r"<em>([^<]*)</em></a>", text))
    assert {"Deformation", "FoldBounds"} <= linked
    assert not [word for word in linked if word.islower()]


def test_formulas_are_mathml(pages):
    text = (pages / "maths.html").read_text(encoding="utf-8")
    assert text.count("<math") > 50
    for path in every(pages):
        text = path.read_text(encoding="utf-8")
        assert "<merror" not in text, path.name
        assert not re.search(r"\\[(\[]|\$\$", re.sub(r"<pre.*?</pre>|<code.*?</code>", "", text, flags=re.S)), path.name


@pytest.mark.parametrize("words", SEARCHES)
def test_search_knows_the_words(pages, words):
    """The search index contains every word, with the pages to which it should lead."""
    stem = pytest.importorskip("sphinx.search.en").SearchEnglish({}).stem
    index = json.loads(re.sub(r"^Search\.setIndex\(|\)$", "", (pages / "searchindex.js").read_text(encoding="utf-8")))
    pages_of = [
        {index["docnames"][k] for kind in ("terms", "titleterms") for k in as_list(index[kind].get(stem(word), []))}
        for word in words.split()
    ]
    assert set(SEARCHES[words]) <= set.intersection(*pages_of)


def as_list(entry):
    return [entry] if isinstance(entry, int) else entry
