# What the scripts need: found, or installed, or the script ends with words. Read by scripts/test and scripts/soak.
# Nothing here is skipped in silence.

# Where what we install lives, outside the tree: kept between runs.
tools=${SWITCHBOARD_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/switchboard-tools}
cargo_deny_version=0.20.2
export PATH="$tools/bin:$PATH"

fail() {
    printf 'scripts: %s\n' "$*" >&2
    exit 1
}

# A writable folder outside the tree for the tools.
need_tools_folder() {
    mkdir -p "$tools" || fail "$tools can't be made; set SWITCHBOARD_TOOLS to a folder that can"
}

# Installs Debian packages: as root directly, otherwise with sudo.
install_packages() {
    local -a as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "these packages are missing and neither root nor sudo is there to install them: $*"
        as_root=(sudo)
    fi
    command -v apt-get >/dev/null || fail "these packages are missing and there is no apt-get: $*"
    printf 'installing %s\n' "$*"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
}

# The browser: $CHROMIUM, or the first that is there.
find_chromium() {
    local candidate
    for candidate in ${CHROMIUM:-} /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome; do
        if [ -x "$candidate" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}

need_rust() {
    local component
    command -v cargo >/dev/null || fail "Rust is missing: https://rustup.rs says how to install it"
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 || fail "cargo $component is missing: rustup component add rustfmt clippy"
    done
}

# Programs the tests start, and the browser.
need_programs() {
    local -a missing=()
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v curl >/dev/null || missing+=(curl)
    command -v ps >/dev/null || missing+=(procps)
    command -v nsenter >/dev/null || missing+=(util-linux)
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    # with root's programs in the path: the balancers are started by the tests, as whoever runs them
    PATH="$PATH:/usr/sbin:/sbin"
    command -v haproxy >/dev/null || missing+=(haproxy)
    command -v nginx >/dev/null || missing+=(nginx-light)
    command -v ip >/dev/null || missing+=(iproute2)
    command -v nft >/dev/null || missing+=(nftables)
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || missing+=(libfaketime)
    [ -n "$(find_chromium)" ] || missing+=(chromium)
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
    CHROMIUM=$(find_chromium)
    [ -n "$CHROMIUM" ] || fail "no Chromium was found; set CHROMIUM to the program"
    export CHROMIUM
    node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18 ? 1 : 0)' ||
        fail "Node.js $(node --version) is too old for the browser tests: 18 or newer is needed"
}

# cargo-deny, built without optimisation: it runs for seconds, an optimised build takes minutes more.
need_cargo_deny() {
    local found
    found=$(cargo deny --version 2>/dev/null || true)
    case "$found" in
        "cargo-deny "*) return ;;
    esac
    need_tools_folder
    printf 'building cargo-deny %s into %s (once, some minutes)\n' "$cargo_deny_version" "$tools"
    CARGO_TARGET_DIR="$tools/build" CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=none \
        cargo install --quiet --locked --root "$tools" --version "$cargo_deny_version" cargo-deny
    rm -rf "${tools:?}/build"
    cargo deny --version >/dev/null || fail "cargo-deny was built and does not start"
}

# What the browser tests import, as their lock file says, in a folder named after it. Sets BROWSER_MODULES.
need_browser_modules() {
    local folder
    need_tools_folder
    folder="$tools/browser-$(cat tests/browser/package.json tests/browser/package-lock.json | sha256sum | cut -c1-16)"
    if [ ! -e "$folder/complete" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        cp tests/browser/package.json tests/browser/package-lock.json "$folder/"
        (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
        touch "$folder/complete"
    fi
    export BROWSER_MODULES="$folder"
}
