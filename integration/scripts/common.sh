# Shared by the scripts beside this one; sourced, not run.

# Whether packages can be installed without asking anybody: Debian or a relative of it, as root.
can_apt() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1
}

# Installs Debian packages; the list of packages is fetched once per run.
apt_install() {
    echo "installing $* with apt-get"
    if [ -z "${APT_UPDATED:-}" ]; then
        apt-get update -qq || return 1
        APT_UPDATED=1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
