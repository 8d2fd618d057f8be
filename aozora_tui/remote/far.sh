# What runs on the far machine while `aozora-tui watch --host` watches a run there. It reads requests, one a line, and
# answers each in lines, the last of them a dot. It needs a POSIX shell and the stat, tail, head and sed of any Linux,
# and changes nothing but the commands that it is asked to leave in the run's folder.
folder= last=

say() { printf '%s\n' "$*"; }
no() { printf '! %s\n.\n' "$*"; }

# A folder of settings.toml, as `runs = "/data/runs"` under [folders].
setting() {
  sed -n "/^[[:space:]]*\[folders\]/,/^[[:space:]]*\[[^f]/ \
    s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*[\"']\([^\"']*\)[\"'].*/\1/p" "$2" 2>/dev/null
}
# A variable that only a login shell sets.
of_login() { say "$login" | sed -n "s/^$1=//p"; }

find_runs() {
  runs=$1
  if [ -z "$runs" ]; then
    login=$(timeout 10 "${SHELL:-/bin/sh}" -lc env </dev/null 2>/dev/null)
    : "${AOZORA_RUNS:=$(of_login AOZORA_RUNS)}" "${AOZORA_DATA:=$(of_login AOZORA_DATA)}"
    : "${AOZORA_CONFIG:=$(of_login AOZORA_CONFIG)}"
    : "${XDG_CONFIG_HOME:=$(of_login XDG_CONFIG_HOME)}" "${XDG_DATA_HOME:=$(of_login XDG_DATA_HOME)}"
    settings=${AOZORA_CONFIG:-${XDG_CONFIG_HOME:-$HOME/.config}/aozora-tui}/settings.toml
    runs=${AOZORA_RUNS:-$(setting runs "$settings")}
    data=${AOZORA_DATA:-$(setting data "$settings")}
    runs=${runs:-${data:-${XDG_DATA_HOME:-$HOME/.local/share}/aozora-tui}/runs}
  fi
  case $runs in "~" | "~/"*) runs=$HOME${runs#\~} ;; esac
}

list_runs() {
  find_runs "$1"
  say "t $runs"
  for one in "$runs"/*; do
    for file in run.json profile.toml events.jsonl commands; do
      [ -e "$one/$file" ] && say "n ${one##*/}" && break
    done
  done
  say .
}

enter() {
  folder=$1 last=
  case $folder in "~/"*) folder=$HOME${folder#\~} ;; esac
  if cd "$folder" 2>/dev/null; then
    folder=$(pwd)
    say "t $folder"
    say .
  else
    no "there is no folder $folder"
  fi
}

# So many bytes as are told, also of a file that is being cut short: what is missing is zeros.
send() { # name offset size limit
  count=$(($3 - $2))
  [ "$count" -gt 0 ] && [ -r "$1" ] || return 0
  [ "$count" -le "$4" ] || count=$4
  say "d $count $1"
  { tail -c "+$(($2 + 1))" "$1" | head -c "$count"; head -c "$count" /dev/zero; } 2>/dev/null | head -c "$count"
}

look() { # pid events-offset log-offset limit
  if ! cd "$folder" 2>/dev/null; then
    no gone
    return
  fi
  pid=$1 from=$2 log_from=$3 limit=$4 events=0 log=0 lock= owner= begun= kept=
  files=$(stat -L -c 's %n %d:%i %s %Y' events.jsonl log.txt run.json profile.toml run.lock 2>/dev/null)
  while read -r _ name place size _; do
    case $name in
      events.jsonl) events=$size ;;
      log.txt) log=$size ;;
      run.lock) lock=${place#*:} ;;
    esac
  done <<END
$files
END
  if [ -n "$lock" ] && [ -r /proc/locks ]; then
    while read -r _ kind _ mode held place _; do
      case "$kind $mode $place" in "POSIX WRITE "*":$lock") owner=$held ;; esac
    done </proc/locks
  fi
  if [ "$pid" -gt 0 ] && [ -r "/proc/$pid/stat" ]; then
    { read -r line <"/proc/$pid/stat"; } 2>/dev/null
    set -- ${line##*) }
    [ "$1" != Z ] && [ $# -ge 20 ] && shift 19 && begun=$1
  fi
  for one in checkpoints/step-*/manifest.json; do
    [ -e "$one" ] && kept=${one%/manifest.json}
  done
  now="$files
k owner $owner
k begun $begun
k kept ${kept##*step-}"
  if [ "$now" = "$last" ]; then say =; else say "$now"; fi
  last=$now
  send events.jsonl "$from" "$events" "$limit"
  send log.txt "$log_from" "$log" "$limit"
  say .
}

part() { # offset count name
  size=$(stat -L -c %s "$3" 2>/dev/null) || {
    no "there is no $3"
    return
  }
  send "$3" "$1" "$size" "$2"
  say .
}

# Beside and renamed, so that the engine never sees half of it.
leave() { # name text
  if mkdir -p commands 2>/dev/null && printf '%s' "$2" 2>/dev/null >"commands/.$1" && mv "commands/.$1" "commands/$1"; then
    say .
  else
    no "its folder cannot be written"
  fi
}

again() {
  said=$(AOZORA_AGAIN=$folder timeout 120 "${SHELL:-/bin/sh}" -lc "$1 resume --detach \"\$AOZORA_AGAIN\"" </dev/null 2>&1)
  case $? in
    0) say . ;;
    126 | 127) no "$1 is not found there: say where it is, as --remote-command '~/aozora-tui/.venv/bin/aozora-tui'" ;;
    *) no "$(say "$said" | sed -n '$p')" ;;
  esac
}

boot=-
[ -r /proc/sys/kernel/random/boot_id ] && read -r boot </proc/sys/kernel/random/boot_id
say "aozora-lines 1 ${boot:--} $(uname -n)"
while IFS= read -r request; do
  rest=${request#? }
  case $request in
    "f "*) list_runs "$rest" ;;
    "o "*) enter "$rest" ;;
    "p "*) look $rest ;;
    "r "*)
      offset=${rest%% *} rest=${rest#* }
      part "$offset" "${rest%% *}" "${rest#* }"
      ;;
    "c "*) leave "${rest%% *}" "${rest#* }" ;;
    "a "*) again "$rest" ;;
    *) no "unknown request" ;;
  esac
done
exit 0
