/**
 * Small scripts for /bin/sh of a guest. Names are arguments, never part of a script. Whatever changes something first
 * enters its folder and checks where it is: a link above cannot lead it out of /workspace, also not while it runs.
 */

/** Exit codes of the scripts. */
export const NO_SUCH_FILE = 44;
export const LEADS_OUT = 45;
export const IN_THE_WAY = 46;

const ENTER = `cd -P "/workspace/$1" 2>/dev/null || exit ${NO_SUCH_FILE}
case "$(pwd -P)/" in /workspace/*) ;; *) exit ${LEADS_OUT} ;; esac`;

/** $1: a path. Prints mode (hex), size and time, then the real path, which ends with NUL. */
export const LOOK = `stat -Lc '%f %s %.3Y' "/workspace/$1" 2>/dev/null || exit ${NO_SUCH_FILE}
readlink -fz "/workspace/$1"`;

/** $1: a folder. Prints type, size, time and name of each entry, each ended with NUL. */
export const LIST = `${ENTER}
exec find . -mindepth 1 -maxdepth 1 -printf '%y\\0%s\\0%T@\\0%f\\0'`;

/** $1: a folder, $2: what was written, $3: its name. Prints "new" where nothing had the name. */
export const INSTALL = `${ENTER}
if [ -d "./$3" ] && [ ! -L "./$3" ]; then rm -f "./$2"; exit ${IN_THE_WAY}; fi
[ -e "./$3" ] || [ -L "./$3" ] || echo new
if [ -f "./$3" ] && [ ! -L "./$3" ] && [ -x "./$3" ]; then chmod +x "./$2"; fi
mv -fT "./$2" "./$3"`;

/** $1: a folder, $2: what was written in part. */
export const DISCARD = `${ENTER}
rm -f "./$2"`;

/** $1: a folder, $2: a name. */
export const REMOVE = `${ENTER}
[ -e "./$2" ] || [ -L "./$2" ] || exit ${NO_SUCH_FILE}
if [ -d "./$2" ] && [ ! -L "./$2" ]; then rmdir "./$2" 2>/dev/null || exit ${IN_THE_WAY}; else rm -f "./$2"; fi`;
