#!/usr/bin/env bash
# Makes .venv ready for Atelier: the right torch for this machine, then requirements.txt, then a self-check.
# Run it as often as you like: it does only what is missing, and repairs what an interruption left behind.
# No root, no questions. The other doors (gui.sh, train.sh, test.sh) call it when needed.
set -u -o pipefail

TORCH=2.13.0
TORCHVISION=0.28.0
WHEELS=https://download.pytorch.org/whl # torch's own index: one folder a build (cpu, cu126, cu130, rocm7.2)

usage='Usage: ./setup.sh [--torch cpu|cuda|rocm] [--dev]

  --torch BUILD  which build of torch: cpu, cuda (NVIDIA) or rocm (AMD). Default: what this machine has,
                 and what an earlier --torch said.
  --dev          also what ./test.sh needs
  PYTHON=PROGRAM ./setup.sh  uses that Python (3.10 to 3.13)'

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P) || exit 1
venv=$here/.venv
py=$venv/bin/python
log=$venv/setup.log
system=${ATELIER_SYSTEM_ROOT-} # tests put a made-up /proc, /sys and /opt here

say() { printf '%s\n' "$*"; }
die() { printf '\n%s\n' "$*" >&2; exit 1; }

# --- what was asked -------------------------------------------------------------------------------------------------
asked='' dev='' by_door=''
while [ $# -gt 0 ]; do
    case $1 in
        --torch) asked=${2:-nothing}; [ $# -gt 1 ] && shift ;;
        --torch=*) asked=${1#--torch=} ;;
        --dev) dev=yes ;;
        --if-needed) by_door=yes ;; # from the other doors: trust the stamp, and do not let the doctor stop them
        -h | --help) say "$usage"; exit 0 ;;
        *) die "$1: there is no such option.
$usage" ;;
    esac
    shift
    case ${asked:-cpu} in cpu | cuda | rocm) ;; *) die "--torch: choose cpu, cuda or rocm (got '$asked')." ;; esac
done

# A set-up must not be led astray by what the caller's shell is set to.
unset PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_REQUIREMENT PIP_CONSTRAINT
export PYTHONUTF8=1 PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

# --- what this machine has ------------------------------------------------------------------------------------------
nvidia_query() { # "8.6, 580.95.05", a line for each card; nothing where no card answers
    local program
    for program in nvidia-smi "$system/usr/lib/wsl/lib/nvidia-smi"; do
        command -v "$program" >/dev/null 2>&1 || continue
        "$program" --query-gpu=compute_cap,driver_version --format=csv,noheader 2>/dev/null | grep '^[0-9]' && return
    done
}

cuda_build() { # CUDA 13 needs driver 580 and a card from Turing (7.5) on; CUDA 12.6 knows none after Hopper (9.0)
    nvidia_query | awk -F'[,.]' '
        $1 ~ /^[0-9]+$/ { card = $1 * 10 + $2; if (card > best) best = card; driver = $3 + 0 }
        END { print (best && (best < 75 || (driver < 580 && best < 100))) ? "cu126" : "cu130" }'
}

amd_card() { # a card that the ROCm build carries code for, as the kernel numbers it: 110000 is gfx1100
    cat "$system"/sys/class/kfd/kfd/topology/nodes/*/properties 2>/dev/null | awk '
        BEGIN {
            n = split("90008 90010 90402 90500 100300 110000 110001 110002 110500 110501 120000 120001", known)
            for (i = 1; i <= n; i++) supported[known[i]] = 1
        }
        $1 == "gfx_target_version" && supported[$2] { found = 1 }
        END { exit !found }'
}

build_for_this_machine() {
    if [ -e "$system/proc/driver/nvidia/version" ] || [ -n "$(nvidia_query)" ]; then
        cuda_build
    elif amd_card || { [ ! -d "$system/sys/class/kfd" ] && { command -v rocminfo >/dev/null || [ -d "$system/opt/rocm" ]; }; }; then
        say rocm7.2
    else
        say cpu
    fi
}

chosen_build() { # what --torch says; else what an earlier set-up chose (a driver may be away for a day); else the machine
    case $asked in
        cpu) say cpu ;;
        cuda) cuda_build ;;
        rocm) say rocm7.2 ;;
        *) cat "$venv/torch-build.txt" 2>/dev/null || build_for_this_machine ;;
    esac
}

version_of() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }

python_fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

packages_with_python() {
    if command -v apt-get >/dev/null; then say "sudo apt install python3 python3-venv"
    elif command -v pacman >/dev/null; then say "sudo pacman -S python   (or python312 from the AUR where python is newer than 3.13)"
    elif command -v dnf >/dev/null; then say "sudo dnf install python3.12"
    elif command -v zypper >/dev/null; then say "sudo zypper install python312"
    elif command -v brew >/dev/null; then say "brew install python@3.12"
    else say "https://www.python.org/downloads/"
    fi
}

find_python() { # sets $python to the first fitting Python that can make environments
    local candidate lacking='' seen=''
    [ -z "${PYTHON-}" ] || command -v "$PYTHON" >/dev/null 2>&1 || die "PYTHON=$PYTHON: there is no such program."
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.12 python3.11 python3.13 python3.10 python; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        seen="$seen $candidate ($("$candidate" --version 2>&1))"
        if ! python_fits "$candidate"; then
            [ "$candidate" = "${PYTHON-}" ] && die "PYTHON=$candidate: Atelier needs Python 3.10 to 3.13 (got $("$candidate" --version 2>&1))."
            continue
        fi
        if "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            python=$(command -v "$candidate")
            return
        fi
        lacking=${lacking:-$candidate}
    done
    if [ -n "$lacking" ]; then
        local version
        version=$(version_of "$lacking")
        version=${version%.*}
        die "Python $version is here, but its module venv (or ensurepip) is missing. Install it, then run this again:
    Debian, Ubuntu:  sudo apt install python$version-venv
    elsewhere:       $(packages_with_python)"
    fi
    die "Atelier needs Python 3.10 to 3.13; found:${seen:- none}. Install one, then run this again:
    $(packages_with_python)
Or name one: PYTHON=/path/to/python3.12 ./setup.sh"
}

# --- whether anything is to do --------------------------------------------------------------------------------------
wanted_stamp() { # what a finished set-up writes down last
    say "python $(version_of "$py")"
    say "torch $build"
    cat "$here/requirements.txt"
}

is_ready() {
    [ -x "$py" ] && [ -f "$venv/ready.txt" ] || return 1
    [ "$(cat "$venv/ready.txt")" = "$(wanted_stamp)" ] && python_as_asked || return 1
    [ -z "$dev" ] || cmp -s "$here/requirements-dev.txt" "$venv/ready-dev.txt"
}

python_as_asked() { [ -n "$by_door" ] || [ -z "${PYTHON-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$py")" ]; }

nothing_to_do() { # called by hand, it also looks whether every file is there, which takes a second
    is_ready || return 1
    [ -z "$by_door" ] || return 0
    [ -z "$("$py" -I "$here/engine/installed.py" 2>&1)" ] || return 1
    say "Atelier is set up (Python $(version_of "$py"), torch $(installed_version torch)): nothing to do.
How this machine fares: .venv/bin/python -m engine doctor"
}

site_packages() { printf '%s\n' "$venv"/lib/python3.*/site-packages | tail -n 1; }

installed_version() { # of the package $1; empty when it is not there
    local info
    for info in "$(site_packages)/$1"-*.dist-info; do
        [ -d "$info" ] && info=${info##*/"$1"-} && say "${info%.dist-info}"
    done
}

# --- doing it -------------------------------------------------------------------------------------------------------
take_lock() { # one set-up at a time; the lock goes with the processes that hold it, however they end
    exec 9<"$here/requirements.txt"
    "$python" -c 'import fcntl
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Another set-up of this folder is under way; waiting for it.", flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError as error:
    print(f"Note: this file system knows no locks ({error}); do not run two set-ups at once.")'
}

make_venv() {
    say "  making .venv with Python $(version_of "$python")"
    local output
    output=$("$python" -m venv --clear "$venv" 2>&1) || die "The environment .venv could not be made:
$output
Make sure that this folder can be written to and that the Python package venv is there:
    $(packages_with_python)"
}

explain() { # the remedy for what the log ends with
    local end
    end=$(tail -n 60 "$log")
    case $end in
        *"No space left"*) say "The disk is full. Make room, then run ./setup.sh again." ;;
        *"hash"*"do not match"* | *THESE\ PACKAGES*) say "A download was damaged. Run ./setup.sh again." ;;
        *"resolve"*"host"* | *"name resolution"* | *NewConnectionError* | *NameResolutionError* | *ConnectTimeout* | *ReadTimeout* | *ProxyError* | *"Network is unreachable"*)
            say "The package index cannot be reached. Check the connection (and proxy), then run ./setup.sh again: what was downloaded is kept." ;;
        *"No matching distribution"*) say "The index has no such package for this Python or system. With another Python: PYTHON=/path/to/python3.12 ./setup.sh" ;;
        *) say "Run ./setup.sh again; if that does not help, delete the folder .venv first." ;;
    esac
}

show() { # of pip's many lines, only what is being downloaded and is big; on a terminal everything, in one place
    local line text big='[0-9]{3,}\.[0-9] MB\)|GB\)'
    while IFS= read -r line; do
        case $line in *Downloading\ *) text=${line##*Downloading } ;; *Installing\ collected*) text="unpacking" ;; *) continue ;; esac
        case $text in http*) text=${text##*/} ;; esac
        if [ -t 1 ]; then
            printf '\r\033[K    %.100s' "$text"
        elif [[ $text =~ $big ]]; then
            say "    $text"
        fi
    done
    if [ -t 1 ]; then printf '\r\033[K'; fi
}

pip_install() {
    mkdir -p "$venv/tmp" # /tmp may be a small memory disk; torch's wheels are not small
    say "--- pip install $*" >>"$log"
    TMPDIR=$venv/tmp "$py" -m pip install --progress-bar off "$@" 2>&1 | tee -a "$log" | show
    local status=${PIPESTATUS[0]}
    rm -rf "$venv/tmp"
    return "$status"
}

failed() {
    printf '\n' >&2
    grep -v -e '^WARNING: Location' -e 'already satisfied' "$log" | tail -n 12 | sed 's/^\(.\{200\}\).*/\1 .../; s/^/    /' >&2
    die "$1
$(explain)
Everything pip said is in $log"
}

torch_is_there() {
    local version
    version=$(installed_version torch)
    case $build:$version in
        "$build:$TORCH+$build" | "cu130:$TORCH") return 0 ;; # the registry's own build is the one for CUDA 13.0
        "cpu:$TORCH") [ "$(uname -s)" = Darwin ] ;;
        *) return 1 ;;
    esac
}

room_for_torch() {
    local size_gb free_kb
    case $build in cpu) size_gb=3 ;; cu*) size_gb=12 ;; *) size_gb=25 ;; esac
    free_kb=$(df -Pk "$here" | awk 'NR == 2 { print $4 }')
    if [ "${free_kb:-99999999}" -lt $((size_gb * 1000000)) ]; then
        die "The disk of $here has $((free_kb / 1000000)) GB free, this needs about $size_gb GB. Make room, then run ./setup.sh again."
    fi
}

install_torch() {
    local pair=("torch==$TORCH+$build" "torchvision==$TORCHVISION+$build")
    local from_torch=("${pair[@]}" --extra-index-url "$WHEELS/$build" --timeout 20 --retries 1)
    case $build:$(uname -s):$(uname -m) in
        *:Darwin:*) pip_install "torch==$TORCH" "torchvision==$TORCHVISION" ;;
        cpu:*) # first what pip is configured with: a local wheel needs no network, and it never is the CUDA build
            pip_install "torch==$TORCH+cpu" --retries 1 || pip_install "${from_torch[@]}" ;;
        cu130:*:x86_64) # "===" is this very version: not a local +cpu wheel of it
            pip_install "torch===$TORCH" "torchvision===$TORCHVISION" || pip_install "${from_torch[@]}" ;;
        *) pip_install "${from_torch[@]}" ;;
    esac || {
        [ "$build" = cpu ] && failed "torch $TORCH for the CPU could not be installed. (Where $WHEELS is blocked: ./setup.sh --torch cuda takes the
registry's build, several GB, which works without a GPU too.)"
        failed "torch $TORCH ($build) could not be installed."
    }
}

set_up() {
    local size broken=''
    if python_fits "$py" && python_as_asked && [ "$(cat "$venv/torch-build.txt" 2>/dev/null || say "$build")" = "$build" ]; then
        broken=$("$py" -I "$here/engine/installed.py" --mend 2>/dev/null) || broken=pip-
        [ -n "$broken" ] && say "  repairing: $broken"
        case " $broken" in *" pip-"*) make_venv ;; esac
        "$py" -m pip --version >/dev/null 2>&1 || "$py" -m ensurepip >/dev/null 2>&1 || make_venv
    else
        make_venv
    fi
    rm -f "$venv/ready.txt" "$venv/ready-dev.txt"
    say "$build" >"$venv/torch-build.txt"
    : >"$log"
    if ! torch_is_there; then
        room_for_torch
        case $build in cpu) size="0.2 GB" ;; cu*) size="3 GB" ;; *) size="6 GB" ;; esac
        say "  torch $TORCH, build $build (about $size to download)"
        install_torch
    fi
    say "  the packages of requirements.txt (about 0.4 GB to download where they are not in pip's cache)"
    pip_install -r "$here/requirements.txt" || failed "The packages could not be installed."
    if [ -n "$dev" ]; then
        say "  the packages of requirements-dev.txt (about 0.2 GB)"
        pip_install -r "$here/requirements-dev.txt" || failed "The packages for the tests could not be installed."
        cp "$here/requirements-dev.txt" "$venv/ready-dev.txt"
    fi
    torch_is_there || die "Another package replaced torch $TORCH ($build) by $(installed_version torch). Delete .venv and run ./setup.sh again."
    wanted_stamp >"$venv/ready.new" && mv "$venv/ready.new" "$venv/ready.txt"
}

main() {
    build=$(chosen_build)
    nothing_to_do && return
    find_python
    take_lock
    build=$(chosen_build)
    nothing_to_do && return # another set-up has just finished
    trap 'printf "\n"; die "Interrupted. ./setup.sh goes on from here."' INT TERM
    say "Setting up Atelier in $venv"
    set_up
    say ""
    cd "$here" || return
    "$py" -m engine doctor || [ -n "$by_door" ]
}

main
