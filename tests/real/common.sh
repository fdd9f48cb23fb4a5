# What the scripts beside this one share; to be sourced. Makes a directory to work in ($work). At
# exit it ends all that is in `started`, calls `undo` if there is such a function, and shows the ends
# of the logs in $work if something failed.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
export PATH="$PATH:/usr/sbin:/sbin"
export PYTHONDONTWRITEBYTECODE=1

work=$(mktemp -d)
chmod 755 "$work"
started=()
finish() {
    local status=$?
    trap - EXIT
    if ((${#started[@]})); then
        kill "${started[@]}" 2>/dev/null || true
        wait "${started[@]}" 2>/dev/null || true
    fi
    if declare -F undo >/dev/null; then
        undo
    fi
    if [ "$status" != 0 ]; then
        for log in "$work"/*.log; do
            if [ -s "$log" ]; then
                printf -- '-- the end of %s:\n' "${log##*/}"
                tail -n 20 "$log"
            fi
        done
        echo "${0##*/}: FAILED"
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The release build, unless FETCH names another program.
find_fetch() {
    if [ -z "${FETCH:-}" ]; then
        FETCH=$(release_build fetch)
    fi
}

# release_build NAME: builds an example, and prints where it is.
release_build() {
    cargo build --locked --release --example "$1"
    echo "$(realpath "${CARGO_TARGET_DIR:-target}")/release/examples/$1"
}

# An authority, and a server's certificate that it signs.
make_certificates() {
    cat >"$work/openssl.cnf" <<CONF
[req]
distinguished_name = name
prompt = no
[name]
CN = the authority of a test
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
CONF
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config "$work/openssl.cnf")
    openssl req -x509 "${key[@]}" -extensions authority -days 2 \
        -keyout "$work/ca.key" -out "$work/ca.pem"
    openssl req -new "${key[@]}" -subj /CN=localhost \
        -keyout "$work/server.key" -out "$work/server.csr"
    openssl x509 -req -in "$work/server.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" \
        -set_serial 2 -days 2 -extfile "$work/openssl.cnf" -extensions server \
        -out "$work/server.pem"
}

# Writes nginx's configuration, on ports that were free a moment ago. Each further argument is one
# more address at which it listens on the plain port and that of TLS 1.3.
configure_nginx() {
    local user=''
    if [ "$(id -u)" = 0 ]; then
        user='user root;'
    fi
    mkdir -p "$work/nginx"
    read -r plain tls12 tls13 < <(python3 "$here/check.py" ports 3)
    sed -e "s|@USER@|$user|; s|@WORK@|$work|g" \
        -e "s|@PLAIN@|$plain|; s|@TLS12@|$tls12|; s|@TLS13@|$tls13|" \
        "$here/nginx.conf" >"$work/nginx/nginx.conf"
    if (($#)); then
        printf "listen %s:$plain;\n" "$@" >"$work/nginx/more-plain.conf"
        printf "listen %s:$tls13 ssl;\n" "$@" >"$work/nginx/more-tls13.conf"
    fi
}

# Where a port was taken meanwhile, nginx ends, and others are tried. `nginx_inside` may be a command
# that starts it.
nginx_inside=()
start_nginx() {
    local attempt
    for attempt in 1 2 3; do
        configure_nginx "$@"
        "${nginx_inside[@]}" nginx -p "$work/nginx" -e "$work/nginx.log" -c "$work/nginx/nginx.conf" &
        started+=("$!")
        if listens "$!" "$work/nginx/nginx.pid"; then
            return 0
        fi
    done
    echo "nginx does not start" >&2
    return 1
}

# listens PID FILE: waits until the process has written the file, as it does once it listens on all
# ports; 1 where it ends before.
listens() {
    while kill -0 "$1" 2>/dev/null; do
        if [ -s "$2" ]; then
            return 0
        fi
        sleep 0.05
    done
    return 1
}

# start_httpd CONFIGURATION: Apache httpd with what is in $work/httpd. Where the port was taken
# meanwhile, it ends, and another is tried.
start_httpd() {
    local attempt user=''
    if [ "$(id -u)" = 0 ]; then
        user='User www-data\nGroup www-data'
    fi
    chmod -R a+rX "$work/httpd"
    for attempt in 1 2 3; do
        httpd_port=$(python3 "$here/check.py" ports 1)
        sed -e "s|@USER@|$user|; s|@WORK@|$work|g; s|@PORT@|$httpd_port|g" \
            -e "s|@MODULES@|/usr/lib/apache2/modules|" "$1" >"$work/httpd/httpd.conf"
        apache2 -DFOREGROUND -f "$work/httpd/httpd.conf" &
        started+=("$!")
        if listens "$!" "$work/httpd/httpd.pid"; then
            return 0
        fi
    done
    echo "httpd does not start" >&2
    return 1
}

# announced FILE PID: the port that a server which chose it itself has printed.
announced() {
    local port=''
    while [ -z "$port" ]; do
        kill -0 "$2" || return 1
        port=$(sed -n 's/.*port \([0-9][0-9]*\).*/\1/p' "$1" | head -n 1)
        [ -n "$port" ] || sleep 0.05
    done
    echo "$port"
}
