# Sourced by the scripts beside it: DATABASE_URL, or the file that DATABASE_URL_FILE names, becomes $address without
# the password. That goes by the environment, as everybody on a machine can read its command lines.
url=${DATABASE_URL:-}
if [ -n "${DATABASE_URL_FILE:-}" ]; then
    url=$(cat "$DATABASE_URL_FILE")
fi
if [ -z "$url" ]; then
    echo "DATABASE_URL is not set; it should be the address of the log's Postgres" >&2
    exit 2
fi
password=$(printf '%s' "$url" | sed -n 's|^[a-z]*://[^:/@]*:\([^@]*\)@.*|\1|p')
case $password in
*%*)
    echo "the password in DATABASE_URL is percent-encoded; leave it out there and put it into ~/.pgpass" >&2
    exit 2
    ;;
esac
if [ -n "$password" ]; then
    PGPASSWORD=$password
    export PGPASSWORD
fi
# shellcheck disable=SC2034 # for who sources this
address=$(printf '%s' "$url" | sed 's|^\([a-z]*://[^:/@]*\):[^@]*@|\1@|')
