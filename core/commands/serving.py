"""`softtune deploy`: what runs an exported folder as a server."""

from __future__ import annotations

import argparse
import json
import shlex

from core.contract.deployment import base_of, model_name, notes, question, recipes, write_recipes
from core.contract.errors import EXIT_DONE
from core.contract.exports import check_files, read_manifest


def run_deploy(options: argparse.Namespace) -> int:
    """`softtune deploy`: the commands, and with --write the files that run them."""
    folder = options.folder.expanduser()
    manifest = read_manifest(folder)
    made = [recipe for recipe in recipes(folder, manifest, options.host, options.port)
            if options.engine in (None, recipe.engine)]
    check_files(folder, manifest)
    written = write_recipes(folder, made) if options.write else []
    ask = question(folder, manifest, options.host, options.port)
    score = shlex.join(["softtune", "infer", str(folder), "--endpoint", base_of(options.host, options.port), "--split",
                        "heldout"])
    told = list(notes(manifest, options.host))
    if options.json:
        print(json.dumps({
            "folder": str(folder), "model": model_name(folder), "recipes": [recipe.model_dump() for recipe in made],
            "ask": ask, "score": score, "notes": told, "written": [str(file) for file in written],
        }))
        return EXIT_DONE
    print(f"{folder}: {manifest.num_virtual_tokens} soft tokens in {manifest.base_model}, served as the model "
          f"{model_name(folder)}")
    for recipe in made:
        print(f"\n{recipe.engine}: {recipe.needs}\n  {recipe.command}")
        if not recipe.tested:
            print("  as vLLM documents it; softtune's tests run transformers serve")
    print(f"\nask it\n  {ask}\nscore it\n  {score}\n")
    print("\n".join(f"· {note}" for note in told))
    for file in written:
        print(f"wrote {file}")
    if not written:
        print("· --write makes files of these in serve/")
    return EXIT_DONE
