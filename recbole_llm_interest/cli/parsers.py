"""The options of every command. Nothing that is imported here takes long: help and mistakes are answered at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from recbole_llm_interest.cli.arguments import bare_parser, command_parser, data_set_parser
from recbole_llm_interest.settings import MODALITIES, MODELS

#: search algorithms of RecBole's ``HyperTuning``
_SEARCH_ALGORITHMS = ("random", "bayes", "exhaustive")

_DOCTOR = """
Check which encoders and file formats work on this machine. For each that does not, a line says how to add it. The exit
code is 1 if the default text encoder does not work.
"""

_ADAPT = """
Train an adapter, a few parameters inside a frozen encoder, on a data set's own content and training events. Held-out
events are not learned from. Any setting: --key=value; those of adapters begin with adapt_.
"""

_RECOMMEND = """
Recommend the next items for a user, or with --all for every user of the data set. After a kill, the same command with
--all goes on behind the last finished part. Settings that differ from those of training, such as data_path, are given
as --key=value.
"""

_REPORT = """
Write one HTML file that works offline, and its figures as PNG. A table gives the result in sentences, metrics of all
models, those of rare and frequent items, and training curves. A checkpoint gives modality weights, a map of the items,
and one user's recommendations, with reasons, and interest over time. Settings that differ from those of training, such
as data_path, are given as --key=value. The report names a user only with --user, and items' titles only with --titles;
otherwise it has the items' ids. The names of interests are categories or words that items of a group have in common.
"""

_EXPORT = """
Write a trained model to a folder in the layout of the Hugging Face Hub, with its model card, and as programs that run
without encoders and without Python. Settings that differ from those of training, such as data_path, are given as
--key=value.
"""

_EMBED = """
Write the representations of items and the interests of users as feature files that RecBole's other models load. To
compare such models, give --history=training: events that training did not see are then not read. Settings that differ
from those of training, such as data_path, are given as --key=value.
"""

_FOLLOW = """
Read events, one JSON object a line with the data set's columns, from a file that grows or from standard input. Each
event moves its user's state on at once, and is written with it: after a kill, the same command goes on behind the last
event. Before it is read, an event is looked for among the best ten items. With --refresh_every, new weights are trained
meanwhile. Settings of that training, such as epochs, replay and minutes, and those that differ from training, such as
data_path, are given as --key=value.
"""

_SERVE = """
Serve a trained model by HTTP: events as they happen, recommendations, explanations and interests, new items, and users
who want to be deleted. Each event counts at once, and is on the disk before it is acknowledged. Settings that differ
from those of training, such as data_path, are given as --key=value.
"""

_MCP = """
Give a language model tools that call a service which runs (llm-interest serve): find items, recommend, explain, name
interests, preview, and store an event. It speaks the Model Context Protocol over standard input and output.
"""

_FORGET = """
Delete users or items from the data set's files, including images and audio, and from everything that was made from it:
encoded features, saved data sets, user states, reports, texts of exported models and logs. Each file that is left is
listed with the reason and what to do, such as trained models without --checkpoints. After an interrupt, the same
command continues.
"""

_MIGRATE = """
Convert checkpoints and resume states of former versions, and RecBole's own checkpoints, to files without pickles. The
former files are kept. A separate process with limits reads them; no code in them is run.
"""


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="share the work by Ray: local for this machine alone, auto or HOST:PORT for a cluster [one process]",
    )


def compare_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest compare``."""
    parser = data_set_parser(
        "run_recbole.py", "Train and compare RecBole models. Any setting of RecBole or the plug-in: --key=value."
    )
    parser.add_argument(
        "--model",
        "-m",
        help=f"names of models or rows, separated by commas: RecBole's, {', '.join(MODELS)} [{MODELS[0]}]",
    )
    parser.add_argument("--rows", help="YAML file of rows: names, and below each its model, settings and note")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, counted up from the setting seed [1]")
    parser.add_argument("--nproc", type=int, default=1, help="number of processes or GPUs that train a model [1]")
    parser.add_argument(
        "--table", help="file of the table; its finished runs are not run again, interrupted ones are resumed"
    )
    parser.add_argument("--checkpoint", help="evaluate this checkpoint instead of training")
    parser.add_argument("--resume", help="resume the interrupted run of this checkpoint, such as saved/….safetensors")
    return parser


def tune_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest tune``."""
    parser = data_set_parser("python -m recbole_llm_interest.tuning", "Search a model's settings on validation data.")
    parser.add_argument("--model", "-m", help="name of the model [LLMInterest]")
    parser.add_argument("--space", help="search space in RecBole's format [properties/search/MODEL.hyper]")
    parser.add_argument("--algorithm", choices=_SEARCH_ALGORITHMS, default="random", help="search algorithm [random]")
    parser.add_argument("--trials", type=int, default=10, help="number of trials; exhaustive tries all settings [10]")
    parser.add_argument(
        "--output", help="file of the best settings, with the trials beside it [tuned/MODEL-DATASET.yaml]"
    )
    _add_cluster(parser)
    return parser


def encode_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest encode``."""
    parser = data_set_parser(
        "python -m recbole_llm_interest.content.encode",
        "Encode the content of a data set's items and users. Any setting: --key=value.",
    )
    _add_cluster(parser)
    return parser


def adapt_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest adapt``."""
    parser = data_set_parser("python -m recbole_llm_interest.cli.adapt", _ADAPT)
    parser.add_argument("--modality", choices=MODALITIES, default="text", help="whose encoder is adapted [text]")
    parser.add_argument("--output", help="file of the adapter [adapted/DATASET-MODALITY.safetensors]")
    return parser


def doctor_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest doctor``."""
    parser = command_parser("python -m recbole_llm_interest.doctor", _DOCTOR)
    parser.add_argument(
        "--imports",
        action="store_true",
        help="import each package, too, the only way to know that it works; this takes up to half a minute",
    )
    return parser


def recommend_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest recommend``."""
    parser = command_parser(
        "python -m recbole_llm_interest.recommender",
        _RECOMMEND,
    )
    parser.add_argument("--checkpoint", required=True, help="of LLMInterest, or an exported folder")
    parser.add_argument("--user", help="id in the data set; without --history, after the recorded events")
    parser.add_argument("--history", help="items in chronological order, separated by commas")
    parser.add_argument("--times", help="times of these events, separated by commas")
    for modality in ("text", "image", "audio"):
        parser.add_argument(f"--profile_{modality}", help=f"{modality} of a new user's profile")
    parser.add_argument("--state", help="file of a saved state, before the events of --history")
    parser.add_argument(
        "--context",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="what is known before the choice, such as query=short films; may be given several times",
    )
    parser.add_argument("--save_state", help="file to write the state to")
    parser.add_argument("--all", action="store_true", help="write the items of every user to --output")
    parser.add_argument("--output", metavar="FILE", help="with --all: its table, .parquet, .csv or .jsonl")
    parser.add_argument("--users", metavar="FILE", help="with --all: only users of this file, one id a line [all]")
    _add_cluster(parser)
    parser.add_argument("--k", type=int, default=10, help="number of items [10]")
    parser.add_argument("--candidates", help="items that may be recommended, separated by commas [all]")
    parser.add_argument("--pool", metavar="FILE", help="recommend new items: JSON lines with item_id and content")
    parser.add_argument("--exclude", help="items that are not recommended, separated by commas")
    parser.add_argument("--exclude_seen", action="store_true", help="do not recommend items of the history")
    parser.add_argument("--min_diversity", type=float, default=0.0, help="least 1 - cosine of any two items [0]")
    parser.add_argument("--forecast", type=int, default=0, help="print the likeliest events, so many ahead, too")
    parser.add_argument("--explain", metavar="ITEM", help="print the parts of this item's score, too")
    return parser


def follow_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest follow``."""
    parser = command_parser("python -m recbole_llm_interest.cli.follow", _FOLLOW)
    parser.add_argument("--checkpoint", required=True, help="of LLMInterest, as run_recbole.py writes them")
    parser.add_argument(
        "--events", required=True, help="JSON lines: a file, - for standard input, or redis://HOST:PORT/0?stream=NAME"
    )
    parser.add_argument("--output", required=True, help="folder of events, states and new weights")
    parser.add_argument("--until_end", action="store_true", help="end where the file does, rather than wait for more")
    parser.add_argument("--batch", type=int, default=256, help="events that are written together, at most [256]")
    parser.add_argument("--key", metavar="COLUMN", help="names an event, which is read once however often it is sent")
    parser.add_argument("--evaluate", type=float, default=1.0, help="share of events that are evaluated [1]")
    parser.add_argument("--window", type=int, default=1000, help="evaluated events in a line that is printed [1000]")
    parser.add_argument("--refresh_every", type=int, default=0, help="events after which weights are trained [never]")
    return parser


def serve_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest serve``."""
    parser = command_parser("python -m recbole_llm_interest.cli.serve", _SERVE)
    parser.add_argument("--checkpoint", required=True, help="of LLMInterest, or an exported folder")
    parser.add_argument(
        "--store", default="served", help="a folder, redis://HOST:PORT/0?stream=NAME, or memory [served]"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at [127.0.0.1, this machine alone]")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at [8000]")
    parser.add_argument("--workers", type=int, default=1, help="number of processes, each with the model [1]")
    parser.add_argument("--api_keys", metavar="FILE", help="keys that are accepted: NAME KEY ROLE, one a line [none]")
    parser.add_argument("--rate", type=float, default=2000.0, help="requests a second of a client and process [2000]")
    parser.add_argument("--max_body", type=int, default=2**20, help="bytes of a request's body, at most [1048576]")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds that a request may wait [10]")
    parser.add_argument("--queue", type=int, default=1000, help="requests that may wait in a process [1000]")
    parser.add_argument("--cached_users", type=int, default=20_000, help="users in memory of a process [20000]")
    parser.add_argument("--recall", type=float, help="let an index find this share of the ten best [all are scored]")
    parser.add_argument("--quiet", action="store_true", help="write no line for each request")
    return parser


def mcp_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest mcp``."""
    parser = bare_parser("python -m recbole_llm_interest.cli.mcp", _MCP)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the service [http://127.0.0.1:8000]")
    parser.add_argument("--api_key_file", metavar="FILE", help="has a key of the service [none]")
    return parser


def report_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest report``."""
    parser = command_parser("python -m recbole_llm_interest.report", _REPORT)
    parser.add_argument("--checkpoint", help="of LLMInterest, as run_recbole.py writes them")
    parser.add_argument("--table", help="JSON file of a comparison on the same data set, as run_recbole.py writes them")
    parser.add_argument("--stream", metavar="FOLDER", help="of llm-interest follow, whose rolling evaluation is drawn")
    parser.add_argument("--user", help="id of the user whose interest is drawn; the report then names this user")
    parser.add_argument("--titles", metavar="COLUMN", help="column of the items' file with their titles [ids]")
    parser.add_argument(
        "--category",
        metavar="COLUMN",
        help="column with the items' categories, for the map's colours; the first word of a list counts [interests]",
    )
    parser.add_argument("--events", type=int, default=30, help="number of the user's last events that are drawn [30]")
    parser.add_argument(
        "--map",
        choices=["tsne", "pca", "umap"],
        default="tsne",
        help="how the map is computed; umap needs umap-learn, pca is the fastest [tsne]",
    )
    parser.add_argument("--output", help="folder of the report [report-… beside the checkpoint or table]")
    return parser


def export_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest export``."""
    parser = command_parser("python -m recbole_llm_interest.export", _EXPORT)
    parser.add_argument("--checkpoint", required=True, help="of LLMInterest, as run_recbole.py writes them")
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument("--onnx", action="store_true", help="write the programs for ONNX, too")
    parser.add_argument("--k", type=int, help="number of best items that the programs return [scores of all items]")
    parser.add_argument(
        "--table",
        help="JSON file of the comparison with the run's test result, for the card [those beside the checkpoint]",
    )
    parser.add_argument("--license", default="unknown", help="of the model, by the Hub's identifier [unknown]")
    return parser


def embed_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest embed``."""
    parser = command_parser("python -m recbole_llm_interest.cli.embed", _EMBED)
    parser.add_argument("--checkpoint", required=True, help="of LLMInterest, as run_recbole.py writes them")
    parser.add_argument("--output", required=True, help="folder of the files; that of the data set for RecBole")
    parser.add_argument(
        "--history",
        choices=("recorded", "training"),
        default="recorded",
        help="of users: all, or of training [recorded]",
    )
    parser.add_argument("--steps", type=int, default=0, help="also the interest so many likely events ahead [0]")
    return parser


def forget_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest forget``."""
    parser = data_set_parser("python -m recbole_llm_interest.forget", _FORGET)
    parser.add_argument("--user", action="append", default=[], help="id of a user; may be given several times")
    parser.add_argument("--item", action="append", default=[], help="id of an item; may be given several times")
    parser.add_argument("--checkpoints", action="store_true", help="delete models trained on the data set, too")
    parser.add_argument("--results", action="store_true", help="delete tables, results of tuning and reports, too")
    return parser


def migrate_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest migrate``."""
    parser = command_parser("python -m recbole_llm_interest.cli.migrate", _MIGRATE)
    parser.add_argument("files", nargs="+", metavar="FILE.pth", help="a checkpoint or a resume state")
    return parser


def settings_parser() -> argparse.ArgumentParser:
    """Options of ``llm-interest settings``."""
    parser = command_parser("python -m recbole_llm_interest.cli.settings", "List every setting of the plug-in.")
    parser.add_argument(
        "--write", action="store_true", help="write the generated files of a checkout of the source instead"
    )
    return parser


#: what builds the parser of each command
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "compare": compare_parser,
    "tune": tune_parser,
    "encode": encode_parser,
    "adapt": adapt_parser,
    "doctor": doctor_parser,
    "recommend": recommend_parser,
    "follow": follow_parser,
    "serve": serve_parser,
    "mcp": mcp_parser,
    "report": report_parser,
    "export": export_parser,
    "embed": embed_parser,
    "forget": forget_parser,
    "migrate": migrate_parser,
    "settings": settings_parser,
}
