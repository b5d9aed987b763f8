#!/usr/bin/env bash
# Time a training step and a forward pass against PyTorch on this machine's CPU.
#
#   scripts/bench_vs_torch.sh                     every row, 5 rounds
#   scripts/bench_vs_torch.sh --row 2 --row 5     only these
#   scripts/bench_vs_torch.sh --quick             2 rounds of fewer steps
#
#   --rounds N       rounds, in each of which every engine runs once; the table shows medians
#   --threads N      threads of both (all cores if not given)
#   --venv FOLDER    a Python environment with torch; made there if missing (target/bench-venv)
#   --model FILE     the GGUF file of row 5 (teachers/smollm2-135m-instruct.q4_1.gguf)
#   --binary FILE    a factorize that is built already
#   --out FILE       the measurements, one JSON object a line (target/bench_vs_torch.jsonl)
#
# Rows, width/ffn/core x N/heads/batch x tokens/vocabulary:
#   1  64/192/1x8/4/64x32/64             4  576/1536/3x9/9/4x256/49152
#   2  256/768/2x4/4/16x128/512          5  SmolLM2-135M reads 4x256, logits of all positions
#   3  576/1536/3x2/9/4x256/4096
#   6  row 2 at N = 4 and N = 64, recomputed: what does depth take in memory?
#   7  row 2 with one thread and with two
#   8  a small block applied 4096 times, recomputed
#   9  SmolLM2-135M writes 64 tokens: f32 beside transformers; bf16 and int8 beside llama.cpp on the
#      file as it is, if the environment has llama.cpp's wheel xllamacpp
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target="${CARGO_TARGET_DIR:-target}"
rounds=5 quick='' threads=$(nproc) venv=target/bench-venv binary='' out=target/bench_vs_torch.jsonl
model=teachers/smollm2-135m-instruct.q4_1.gguf
rows=()

fail() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '\nhint: %s\n' "$2" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case "$1" in
    --quick) quick=yes rounds=2 && shift && continue ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" && exit 0 ;;
    --row | --rounds | --threads | --venv | --model | --binary | --out) ;;
    *) fail "unknown argument \`$1\`" "scripts/bench_vs_torch.sh --help tells what there is" ;;
    esac
    [ $# -ge 2 ] || fail "$1 is given without a value"
    case "$1" in
    --row) rows+=("$2") ;;
    --rounds) rounds=$2 ;;
    --threads) threads=$2 ;;
    --venv) venv=$2 ;;
    --model) model=$2 ;;
    --binary) binary=$2 ;;
    --out) out=$2 ;;
    esac
    shift 2
done
for number in "$rounds" "$threads"; do
    [[ $number =~ ^[1-9][0-9]*$ ]] || fail "\`$number\` is no count, expected 1 or more"
done
[ ${#rows[@]} -gt 0 ] || rows=(1 2 3 4 5 6 7 8 9)
for row in "${rows[@]}"; do
    [[ $row =~ ^[1-9]$ ]] || fail "there is no row \`$row\`, expected 1 to 9"
done

python=$venv/bin/python
if [ ! -x "$python" ]; then
    command -v python3 >/dev/null || fail '`python3` is not installed' 'apt install python3 python3-venv'
    python3 -m venv "$venv"
    "$python" -m pip install --quiet --disable-pip-version-check torch transformers accelerate gguf safetensors ||
        { rm -rf "$venv" && fail 'pip could not install torch' 'is there a network, or a mirror in PIP_INDEX_URL?'; }
fi
if [ -z "$binary" ]; then
    cargo build --release --locked
    binary=$target/release/factorize
fi
[ -x "$binary" ] || fail "$binary is no program"
mkdir -p "$(dirname "$out")"
: >"$out"

note() { # note ROW ENGINE JSON: one line of the measurements
    "$python" - "$1" "$2" "$3" >>"$out" <<'PYTHON'
import json, sys
row, engine, found = sys.argv[1:]
print(json.dumps({"row": row, "measured": engine, **json.loads(found)}))
PYTHON
}

# An engine that fails leaves no measurement, and the others go on.
attempt() { # attempt ROW ENGINE COMMAND...
    local row=$1 engine=$2 found
    shift 2
    if found=$(OMP_NUM_THREADS=$threads "$@" 2>"$out.err"); then
        note "$row" "$engine" "$found"
    else
        printf 'note: %s, %s failed: %s\n' "$row" "$engine" "$(tail -n 1 "$out.err")" >&2
    fi
}

ours() { attempt "$1" ours "$binary" bench "${@:2}" --threads "$threads" --json; }
eager() { attempt "$1" eager "$python" scripts/bench_torch.py "${@:2}" --threads "$threads"; }
compiled() {
    attempt "$1" compiled "$python" scripts/bench_torch.py "${@:2}" --threads "$threads" --compile
}
peak() { attempt "$1" peak "$binary" bench peak "${@:2}" --threads "$threads" --json; }

# The engines take turns, so that a busy moment of the machine meets all of them.
against() { # against ROW ROUNDS ARGUMENTS...
    local row=$1 count=$2 round
    shift 2
    for ((round = 1; round <= count; round++)); do
        printf '%s: round %d of %d\n' "$row" "$round" "$count" >&2
        ours "$row" "$@"
        eager "$row" "$@"
        compiled "$row" "$@"
    done
}

few=$(((rounds + 1) / 2))
many_steps=$([ -n "$quick" ] && echo 3 || echo 10)
few_steps=$([ -n "$quick" ] && echo 1 || echo 3)

step_row() { # step_row NAME ROUNDS STEPS WIDTH FFN CORE N HEADS BATCH TOKENS VOCAB
    local products=(--width "$4" --ffn "$5" --vocab "${11}" --batch "$9" --tokens "${10}")
    peak "$1" "${products[@]}"
    against "$1" "$2" step --steps "$3" --core "$6" --repetitions "$7" --heads "$8" "${products[@]}"
    peak "$1" "${products[@]}"
}

row_1() { step_row '1: 64/192/1x8/4/64x32/64' "$rounds" "$many_steps" 64 192 1 8 4 64 32 64; }
row_2() { step_row '2: 256/768/2x4/4/16x128/512' "$rounds" "$many_steps" 256 768 2 4 4 16 128 512; }
row_3() { step_row '3: 576/1536/3x2/9/4x256/4096' "$rounds" "$many_steps" 576 1536 3 2 9 4 256 4096; }
row_4() { step_row '4: 576/1536/3x9/9/4x256/49152' "$few" "$few_steps" 576 1536 3 9 9 4 256 49152; }
row_5() {
    local name='5: SmolLM2-135M reads 4x256'
    if [ ! -f "$model" ]; then
        printf 'note: row 5 is left out: there is no %s (scripts/get_smollm2.sh brings it)\n' "$model" >&2
        return
    fi
    peak "$name" --width 576 --ffn 1536 --vocab 49152 --batch 4 --tokens 256
    against "$name" "$few" prefill --model "$model" --batch 4 --tokens 256 --steps "$few_steps"
}

small=(--width 256 --ffn 768 --core 2 --heads 4 --batch 16 --tokens 128 --vocab 512)
row_6() {
    local depth round
    for ((round = 1; round <= few; round++)); do
        for depth in 4 64; do
            local work=(step "${small[@]}" --repetitions "$depth" --steps "$few_steps")
            ours "6: N = $depth, recomputed" "${work[@]}" --recompute
            eager "6: N = $depth, recomputed" "${work[@]}" --checkpoint
        done
    done
}
row_7() {
    local all=$threads round
    for ((round = 1; round <= rounds; round++)); do
        for threads in 1 2; do
            ours "7: row 2, threads $threads" step "${small[@]}" --steps "$many_steps"
            eager "7: row 2, threads $threads" step "${small[@]}" --steps "$many_steps"
        done
    done
    threads=$all
}
row_8() {
    local block=(--width 64 --ffn 192 --core 1 --heads 4 --batch 1 --tokens 32 --vocab 64)
    local depth
    for depth in 64 4096; do
        local work=(step "${block[@]}" --repetitions "$depth" --steps 1)
        ours "8: small block, N = $depth, recomputed" "${work[@]}" --recompute
        eager "8: small block, N = $depth, recomputed" "${work[@]}" --checkpoint
    done
}

row_9() {
    local name='9: SmolLM2-135M writes 64' round
    [ -f "$model" ] || return 0
    for ((round = 1; round <= few; round++)); do
        local work=(decode --model "$model" --tokens 64)
        ours "$name, f32" "${work[@]}"
        eager "$name, f32" "${work[@]}" --steps "$few_steps"
        ours "$name, bf16" "${work[@]}" --weights bf16
        ours "$name, int8 (eager: llama.cpp, q4_1)" "${work[@]}" --weights int8
        if "$python" -c 'import xllamacpp' 2>/dev/null; then
            eager "$name, int8 (eager: llama.cpp, q4_1)" "${work[@]}" --steps "$few_steps" --llama
        fi
    done
}

for row in "${rows[@]}"; do
    "row_$row"
done
rm -f "$out.err"
"$python" scripts/bench_torch.py table --measured "$out"
