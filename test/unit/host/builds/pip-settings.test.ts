import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  createPipSettings,
  parsePipConfig,
  parsePythonText,
  readPipSettings,
} from '../../../../host/builds/pip-settings.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kpip-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** A program that answers like pip: the test must not depend on whether pip is installed here. */
async function pipThatSays(text: string, exitCode = 0): Promise<string> {
  const program = join(directory, 'pip');
  await writeFile(program, `#!/bin/sh\ncat <<'END'\n${text}\nEND\nexit ${exitCode}\n`);
  await chmod(program, 0o755);
  return program;
}

async function read(text: string, extraEndpoints: string[] = []) {
  const pipCommands = [['no-such-pip'], [await pipThatSays(text)]];
  return readPipSettings({ pipCommands, directory, timeoutMs: 10_000, extraEndpoints });
}

describe('pip settings', () => {
  it('hand on indexes, never a credential', async () => {
    const settings = await read(
      [
        "global.index-url='https://user:SECRET@packages.example:8443/simple'",
        "global.extra-index-url='https://SECRET@one.example/simple\\nhttp://two.example/simple'",
        "global.find-links='/opt/wheels https://links.example/all'",
        "global.trusted-host='two.example'",
        "global.client-cert='/SECRET.pem'",
        "global.timeout='60'",
      ].join('\n'),
      ['files.example:443'],
    );
    expect(settings).toEqual({
      endpoints: [
        'packages.example:8443',
        'one.example:443',
        'two.example:80',
        'links.example:443',
        'files.example:443',
      ],
      pipConf: [
        '[global]',
        'index-url =\n    https://packages.example:8443/simple/',
        'extra-index-url =\n    https://one.example/simple/\n    http://two.example/simple/',
        'find-links =\n    https://links.example/all/',
        'trusted-host =\n    two.example\n',
      ].join('\n'),
      ownIndex: false,
    });
    expect(JSON.stringify(settings)).not.toContain('SECRET');
  });

  it('are those of pip itself where nothing is configured, or no pip is installed', async () => {
    const defaults = { endpoints: [], pipConf: '[global]\n', ownIndex: true };
    expect(await read('')).toEqual(defaults);
    const none = { pipCommands: [['no-such-pip']], directory, timeoutMs: 1000, extraEndpoints: [] };
    expect(await readPipSettings(none)).toEqual(defaults);
    const broken = [[await pipThatSays('', 1)]];
    expect(await readPipSettings({ ...none, pipCommands: broken })).toEqual(defaults);
  });

  it('no index but links means just that', async () => {
    expect(await read("global.no-index='true'\nglobal.find-links='https://links.example/'")).toMatchObject({
      ownIndex: false,
      pipConf: expect.stringContaining('no-index = true'),
    });
  });

  it('say what is wrong, and are asked again after that', async () => {
    await expect(read("global.index-url='ftp://x.example'")).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('index-url'),
    });
    const program = await pipThatSays("global.cert='/nonexistent/ca.pem'");
    const settings = createPipSettings({ pipCommands: [[program]], directory, timeoutMs: 1000, extraEndpoints: [] });
    await expect(settings()).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await pipThatSays('');
    expect(await settings()).toMatchObject({ ownIndex: true });
  });
});

describe('what pip prints', () => {
  it('counts in the order that pip itself has', () => {
    const lines = ["global.index-url='a'", ":env:.index-url='b'", "install.index-url='c'", "list.index-url='d'"];
    const orders = [lines, [...lines].reverse()];
    for (const order of orders) expect(parsePipConfig(order.join('\n')).get('index-url')).toEqual(['b']);
  });

  it('is read back as Python wrote it', () => {
    const plain = fc.string({ unit: fc.constantFrom('a', '/', ':', "'", '"', '\\', '\n', ' ', 'n') });
    fc.assert(
      fc.property(plain, (text) => {
        const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
        const body = text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll(quote, `\\${quote}`);
        expect(parsePythonText(`${quote}${body}${quote}`)).toBe(text);
      }),
    );
  });

  it('never breaks the reader', () => {
    const line = fc.tuple(fc.constantFrom('global', ':env:', 'x', ''), fc.string(), fc.string());
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        const text = lines.map(([section, key, value]) => `${section}.${key}=${value}`).join('\n');
        for (const words of parsePipConfig(text).values()) expect(words.every((word) => word.length > 0)).toBe(true);
      }),
    );
  });
});
