/** Progress lines of set-up, on stderr: stdout belongs to what runs afterwards. */

const HEARTBEAT_MS = 15_000;

const say = (line) => process.stderr.write(`${line}\n`);
const seconds = (since) => `${((Date.now() - since) / 1000).toFixed(1)} s`;

/** @returns a reporter for one step, e.g. `[3/6] Temporal CLI 1.8.2`. */
export function stepProgress(number, total, name) {
  const label = `[${number}/${total}] ${name}`;
  const began = Date.now();
  let doing = '';
  let timer;
  return {
    label,
    /** Prints the current action and its usual duration, and repeats it with the elapsed time while it runs. */
    doing(text) {
      doing = text;
      say(`${label} … ${text}`);
      timer ??= setInterval(() => say(`${label} … ${doing} (${seconds(began)} so far)`), HEARTBEAT_MS);
    },
    done(text) {
      clearInterval(timer);
      say(`${label} ✓ ${text} (${seconds(began)})`);
    },
    stop() {
      clearInterval(timer);
    },
  };
}

export { say };
