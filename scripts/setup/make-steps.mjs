/** Makes the parts of a set-up, several at a time where they do not need each other. */
import { stepProgress } from './progress.mjs';
import { endChildren, SetupError } from './run.mjs';

/**
 * @param steps by name: `{name, ready(), make(progress)}`; `ready` tells the state of what is there already
 * @param after by name: the steps that must be done before
 * @returns the state of each
 * @throws what the first step that fails throws, its message with the step's label; the programs of the others are ended then
 */
export async function makeSteps(steps, after) {
  const entries = Object.entries(steps);
  const making = {};
  let failed = false;
  for (const [index, [name, step]] of entries.entries()) {
    const before = () => Promise.all((after[name] ?? []).map((needed) => making[needed]));
    // Only after all have started: a step may wait for a later one in the list.
    making[name] = Promise.resolve()
      .then(before)
      .then(() => makeOne(step, stepProgress(index + 1, entries.length, step.name), () => failed));
  }
  try {
    const states = await Promise.all(entries.map(async ([name]) => [name, await making[name]]));
    return Object.fromEntries(states);
  } catch (error) {
    failed = true;
    endChildren();
    await Promise.allSettled(Object.values(making));
    throw error;
  }
}

async function makeOne(step, progress, isOver) {
  try {
    const found = await step.ready();
    // The check was ended with the rest, and may have read that as a missing part.
    if (isOver()) throw new SetupError('another step has failed');
    const state = found ?? (await step.make(progress));
    progress.done(state.text);
    return state;
  } catch (error) {
    if (error instanceof SetupError) error.message = `${progress.label}: ${error.message}`;
    throw error;
  } finally {
    progress.stop();
  }
}
