/** Files that look like secrets: refused before any upload, unless their owner allows them. */

const NAMES: readonly RegExp[] = [
  /^\.env(\..+)?$/i,
  /\.(pem|key|p12|pfx|jks|keystore|kdbx)$/i,
  /^id_(rsa|dsa|ecdsa|ed25519)(\..+)?$/i,
  /^\.(netrc|pgpass|pypirc|git-credentials|htpasswd)$/i,
  /^_netrc$/i,
  /^(credentials|client_secret.*)\.json$/i,
  /^\.dockercfg$/i,
  /\.tfstate(\.backup)?$/i,
];
/** Keys of cloud accounts, with anything else in the name. */
const SERVICE_ACCOUNT = /service[-_]?account/i;
/** Templates and public halves hold no secret. */
const HARMLESS: readonly RegExp[] = [/^\.env\.(example|sample|template|dist|defaults)$/i, /\.pub$/i];
const FOLDERS = new Set(['.aws', '.ssh', '.gnupg', '.azure', '.gcloud', '.kube']);

/** The only file whose content decides whether it is a secret. */
export const NPMRC = '.npmrc';

/**
 * @param path plain path below the packed folder
 * @returns whether the name of the file, or of a folder above it, marks it as a secret
 */
export function isSecretPath(path: string): boolean {
  const parts = path.split('/');
  const name = parts.at(-1) ?? '';
  if (parts.slice(0, -1).some((part) => FOLDERS.has(part.toLowerCase()))) return true;
  return looksSecret(name) && !HARMLESS.some((pattern) => pattern.test(name));
}

function looksSecret(name: string): boolean {
  if (SERVICE_ACCOUNT.test(name) && name.toLowerCase().endsWith('.json')) return true;
  return NAMES.some((pattern) => pattern.test(name));
}

/** @returns whether an .npmrc holds a credential; a reference to a variable (`${NPM_TOKEN}`) is not one. */
export function npmrcHoldsSecret(text: string): boolean {
  return text.split(/\r?\n/).some(givesSecret);
}

const FIRST_KEY = /^(?:[^#;]*[:\s])?_?(?:authToken|auth|password)$/i;
const LATER_KEY = /^[^#;]*[:\s]_?(?:authToken|auth|password)$/i;
const VARIABLE = /^["']?\$\{/;

/** A line holds a secret where a name with such an ending is followed by `=` and a value that is not a variable. */
function givesSecret(line: string): boolean {
  const parts = line.split('=');
  for (const [index, part] of parts.slice(0, -1).entries()) {
    const isKey = (index === 0 ? FIRST_KEY : LATER_KEY).test(part.trimEnd());
    if (/[#;]/.test(part)) return false;
    const value = parts[index + 1]?.trimStart() ?? '';
    if (isKey && (value === '' ? index + 2 < parts.length : !VARIABLE.test(value))) return true;
  }
  return false;
}
