/** @returns what a text says as JSON; undefined where it is none. For what others write and a schema judges next. */
export function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
