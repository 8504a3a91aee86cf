/** @returns a text parsed as JSON; undefined where it is not JSON. For text from outside that a schema checks next. */
export function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
