/**
 * Opens the connections that guests ask for: judges the name, resolves it once on the host, judges every address, and
 * dials the judged address itself. So a name server cannot lead a guest into the host's own networks.
 */

import { lookup } from 'node:dns/promises';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect, isIPv6, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { inTime } from '../../concurrency/deadline.ts';
import { SingleFlight } from '../../concurrency/single-flight.ts';
import { addressKind, decideName, mayDial, normaliseName } from '../../domain/egress/rules.ts';
import type { EgressVerdict } from '../../ports/guest-agent.ts';
import type { EgressPolicy } from '../../ports/host.ts';

export interface EgressProxy {
  /** `http://[user:password@]host:port`, or `https:` where the proxy itself speaks TLS. */
  readonly url: string;
  /** Names, with all names below them, that are dialled without the proxy. */
  readonly bypass: readonly string[];
}

export interface EgressDialerOptions {
  /** Time for one resolution, ms. */
  readonly resolveMs: number;
  /** Time for one connection attempt, ms. */
  readonly connectMs: number;
  /** Most addresses of a name that are tried. */
  readonly maxAddresses: number;
  /** Most names looked up at a time. */
  readonly maxLookups: number;
  /** Proxy for outgoing connections, where the host has no direct ones. */
  readonly proxy?: EgressProxy;
  /** Exact `name:port` entries of the operator, for which private addresses are acceptable to every policy that allows them. */
  readonly privateNames?: readonly string[];
  /** Default: the resolver of this machine. */
  readonly resolve?: (name: string) => Promise<readonly string[]>;
}

/** @returns the verdict on one connection; never throws. The host alone writes the reason, in plain words. */
export type EgressDialer = (policy: EgressPolicy, request: { name: string; port: number }) => Promise<EgressVerdict>;

/** @returns a dialer; it keeps no state. */
export function createEgressDialer(options: EgressDialerOptions): EgressDialer {
  const resolve = shared(options.resolve ?? systemResolve, options.maxLookups);
  const privateNames = new Set(options.privateNames);
  return async (policy, request) => {
    const decision = decideName(policy, request);
    if (!decision.allow) return refused(decision.reason);
    const { name } = decision;
    const isOperators = privateNames.has(`${name}:${request.port}`);
    const privateAllowed = decision.privateAllowed || isOperators;
    let addresses: readonly string[];
    try {
      addresses = await inTime(resolve(name), options.resolveMs, () => new Error('no answer in time'));
    } catch {
      return refused(`${name} could not be resolved on the host`);
    }
    // One bad address among good ones is a sign of rebinding, but good ones of a split-horizon name still work.
    const good = addresses.filter((address) => mayDial(address, privateAllowed));
    if (good.length === 0) {
      return refused(addresses.length === 0 ? `${name} has no address` : `${name} leads to a private address`);
    }
    const target = { name, addresses: good.slice(0, options.maxAddresses), port: request.port, isOperators };
    return dialFirst(options, target);
  };
}

interface DialTarget {
  readonly name: string;
  /** Judged, and in the order in which they are tried. */
  readonly addresses: readonly string[];
  readonly port: number;
  /** Whether the operator's setting names it. */
  readonly isOperators: boolean;
}

async function dialFirst(
  { proxy, connectMs }: EgressDialerOptions,
  { name, addresses, port, isOperators }: DialTarget,
): Promise<EgressVerdict> {
  const bypassed = proxy === undefined || isBypassed(proxy, name);
  for (const address of addresses) {
    // A private address that the operator names is one of this host's own networks: a proxy has others.
    const direct = bypassed || (isOperators && addressKind(address) !== 'public');
    try {
      const socket = direct
        ? await dialDirect(address, port, connectMs)
        : await dialThroughProxy(proxy, address, port, connectMs);
      return { allow: true, socket };
    } catch {
      // The next address may answer; the guest does not need to know which one failed.
    }
  }
  return refused(`${name}:${port} does not answer`);
}

function refused(reason: string): EgressVerdict {
  return { allow: false, reason };
}

async function systemResolve(name: string): Promise<readonly string[]> {
  const found = await lookup(name, { all: true });
  return found.map(({ address }) => address);
}

/** Callers that ask for one name at the same time share the answer; only `maxAtOnce` names are looked up at a time. */
function shared(resolve: (name: string) => Promise<readonly string[]>, maxAtOnce: number): typeof resolve {
  const flights = new SingleFlight<readonly string[]>();
  const waiting: (() => void)[] = [];
  let running = 0;
  const inTurn = async (name: string): Promise<readonly string[]> => {
    if (running >= maxAtOnce) await new Promise<void>((go) => waiting.push(go));
    else running++;
    try {
      return await resolve(name);
    } finally {
      const next = waiting.shift();
      if (next === undefined) running--;
      else next();
    }
  };
  return (name) => flights.run(name, () => inTurn(name));
}

function dialDirect(address: string, port: number, connectMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port, allowHalfOpen: true, noDelay: true });
    const timer = setTimeout(() => socket.destroy(new Error(`no connection within ${connectMs} ms`)), connectMs);
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      // A reset before its new owner listens must not end the host.
      socket.removeAllListeners('error').on('error', () => undefined);
      resolve(socket);
    });
  });
}

/** Asks the proxy for the judged address, so that the proxy cannot resolve the name to something else. */
function dialThroughProxy(proxy: EgressProxy, address: string, port: number, connectMs: number): Promise<Duplex> {
  const url = new URL(proxy.url);
  const target = `${isIPv6(address) ? `[${address}]` : address}:${port}`;
  const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  const headers = {
    host: target,
    ...(url.username === '' ? {} : { 'proxy-authorization': `Basic ${Buffer.from(credentials).toString('base64')}` }),
  };
  return new Promise((resolve, reject) => {
    const call = (url.protocol === 'https:' ? httpsRequest : httpRequest)({
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port),
      method: 'CONNECT',
      path: target,
      headers,
      agent: false,
    });
    // Not a signal of the request, which would also end the tunnel later.
    const timer = setTimeout(() => call.destroy(new Error(`no tunnel within ${connectMs} ms`)), connectMs);
    call.once('close', () => clearTimeout(timer));
    call.once('connect', (response, socket, head) => {
      clearTimeout(timer);
      if (response.statusCode !== 200) {
        socket.destroy();
        reject(new Error(`the proxy answered ${response.statusCode}`));
        return;
      }
      if (head.length > 0) socket.unshift(head);
      socket.on('error', () => undefined);
      resolve(socket);
    });
    call.once('response', (response) => {
      response.destroy();
      reject(new Error(`the proxy answered ${response.statusCode}`));
    });
    call.on('error', reject);
    call.end();
  });
}

function isBypassed(proxy: EgressProxy, name: string): boolean {
  return proxy.bypass.some((entry) => {
    if (entry === '*') return true;
    const domain = normaliseName(entry.replace(/^\*?\./, ''));
    return domain !== undefined && (name === domain || name.endsWith(`.${domain}`));
  });
}
