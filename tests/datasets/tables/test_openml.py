"""OpenML: names, what comes back, and one clear line without a network. No test reaches the real server."""

from __future__ import annotations

import http.client
import urllib.error

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
from sklearn.utils import Bunch

from certimetric.datasets import load
from certimetric.datasets.tables.openml import parse_openml_name

CREDIT = pd.DataFrame(
    {
        "duration": [6.0, 48.0, 12.0],
        "purpose": pd.Categorical(["car", "radio", "car"]),
        "class": pd.Categorical(["good", "bad", "good"]),
    }
)


@pytest.fixture
def server(monkeypatch):
    """Replaces the download by a frame, and keeps what was asked for."""

    class Server:
        frame = CREDIT
        targets = ("class",)
        error: BaseException | None = None
        asked: dict

        def __call__(self, name, **options):
            self.asked = {"name": name, **options}
            if self.error is not None:
                raise self.error
            return Bunch(frame=self.frame, target_names=list(self.targets), details={"version": "3"})

    fake = Server()
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fake)
    return fake


def refused(*args, error=ValueError, **kwargs):
    with pytest.raises(error) as caught:
        load(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("openml:iris", ("iris", None)),
        ("openml:credit-g@1", ("credit-g", 1)),
        ("OpenML: mnist_784", ("mnist_784", None)),
    ],
)
def test_names(text, expected):
    assert parse_openml_name(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("openml:", "names no OpenML data set"),
        ("openml:@3", "names no OpenML data set"),
        ("openml:iris@latest", "got 'latest'"),
        ("openml:iris@", "got ''"),
        ("openml:iris@0", "got '0'"),
    ],
)
def test_names_that_are_none(text, words, server):
    assert words in refused(text)
    assert not hasattr(server, "asked")


def test_what_is_asked_for(server):
    server.frame = CREDIT[["duration", "class"]]
    load("openml:credit-g")
    assert (server.asked["name"], server.asked["version"], server.asked["as_frame"]) == (
        "credit-g",
        "active",
        True,
    )
    load("openml:credit-g@2")
    assert server.asked["version"] == 2


def test_what_comes_back(server):
    server.frame = CREDIT[["duration", "class"]]
    data = load("openml:credit-g")
    assert (data.name, data.source) == (
        "credit-g@3",
        "openml",
    )  # the version that was found, to ask for it again
    assert data.y.tolist() == ["good", "bad", "good"]
    np.testing.assert_array_equal(data.X, [[6], [48], [12]])


def test_the_same_encoding_rules(server):
    message = refused("openml:credit-g")
    assert "'purpose' (such as 'car' in data row 1)" in message
    assert "'openml:credit-g'" in message
    data = load("openml:credit-g", encode=True)
    assert data.feature_names == ("duration", "purpose=car", "purpose=radio")


def test_another_target(server):
    data = load("openml:credit-g", target="purpose", encode=True)
    assert server.asked["target_column"] is None  # all columns, so that a wrong name can be answered
    assert data.classes == ("car", "radio")
    assert data.feature_names == ("duration", "class=bad", "class=good")
    message = refused("openml:credit-g", target="porpose")
    assert "did you mean 'purpose'?" in message


@pytest.mark.parametrize("targets", [(), ("class", "purpose")])
def test_no_single_default_target(server, targets):
    server.targets = targets
    message = refused("openml:credit-g")
    assert f"{len(targets)} default target columns" in message
    assert "target=" in message


def test_square_pixels_make_images(server):
    server.frame = pd.DataFrame(np.eye(4), columns=[f"pixel{i + 1}" for i in range(4)]).assign(y=list("abab"))
    server.targets = ("y",)
    assert load("openml:mnist_784").image_shape == (2, 2)


def test_regression_target(server):
    server.frame = pd.DataFrame({"u": [1.0, 2.0], "class": [0.5, 1.5]})
    assert "regression target" in refused("openml:cars")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (urllib.error.URLError(OSError(-3, "Temporary failure in name resolution")), "name resolution"),
        (urllib.error.URLError("no host given"), "no host given"),
        (urllib.error.HTTPError("https://x", 503, "busy", {}, None), "server answered 503"),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset"),
        (http.client.IncompleteRead(b""), "IncompleteRead"),
    ],
)
def test_offline(server, error, words):
    server.error = error
    message = refused("openml:credit-g@1", error=ConnectionError)
    assert message.startswith("OpenML could not be reached for 'openml:credit-g@1'")
    assert words in message
    assert "CSV" in message


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ValueError("No active dataset nope found.\nmore"), ValueError, "No active dataset nope found"),
        (KeyError("target"), ValueError, "'openml:nope'"),
        (PermissionError(13, "Permission denied", "/cache"), OSError, "cache"),
    ],
)
def test_other_failures(server, error, kind, words):
    server.error = error
    assert words in refused("openml:nope", error=kind)


def test_the_real_downloader_without_a_network(monkeypatch, tmp_path, recwarn):
    # A proxy on a port that nothing listens on makes every machine offline, and the cache is an empty folder.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    message = refused("openml:iris", error=ConnectionError)
    assert "Connection refused" in message
    assert "CSV" in message
    assert not [warning for warning in recwarn if "network" in str(warning.message)]
