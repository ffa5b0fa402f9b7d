// The node's HTTP API and its event stream, as docs/openapi.json and the node's /docs describe them.
//
//   submission → POST /v1/transactions, Idempotency-Key → ids or a problem document        events: WebSocket, resumed by sequence number
import WebSocket from 'ws';
import { within } from './processes.mjs';

export class NodeClient {
  constructor(url) {
    this.url = url;
  }

  /** An answer: {status, headers, body}; the body parsed where it is JSON. */
  async request(method, path, { body, headers = {} } = {}) {
    const response = await fetch(`${this.url}${path}`, { method, body, headers });
    const text = await response.text();
    const isJson = (response.headers.get('content-type') ?? '').includes('json');
    return { status: response.status, headers: response.headers, body: isJson && text ? JSON.parse(text) : text };
  }

  /** What a path holds; an error for anything but 200. */
  async get(path) {
    const { status, body } = await this.request('GET', path);
    if (status !== 200) throw new Error(`GET ${path}: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  /** Submits signed transactions; `key` is the Idempotency-Key. */
  submit(bodies, key) {
    const headers = { 'content-type': 'application/json', ...(key && { 'idempotency-key': key }) };
    return this.request('POST', '/v1/transactions', { body: JSON.stringify({ transactions: bodies }), headers });
  }

  /** Submits what must be taken; its ids. */
  async accept(bodies, key) {
    const { status, body } = await this.submit(bodies, key);
    if (status !== 202) throw new Error(`refused: ${status} ${JSON.stringify(body)}`);
    return body.transactions;
  }

  /** An owner's account of a token, as everything acknowledged leaves it. */
  async account(address, token = 0) {
    const { accounts } = await this.get(`/v1/owners/${address}/accounts`);
    return accounts.find((account) => account.token === token);
  }
}

/** Events in order; it survives a broken connection by asking from the last sequence number plus 1. */
export class EventStream {
  constructor(url) {
    this.url = url.replace(/^http/, 'ws');
    this.events = [];
    this.waiting = [];
  }

  /** Connects from the event after the last one seen. */
  async connect() {
    const from = (this.events.at(-1)?.sequence ?? 0) + 1;
    this.socket = new WebSocket(`${this.url}/v1/events?from=${from}`);
    this.socket.on('message', (data) => this.#take(JSON.parse(data)));
    // An abrupt end is part of the tests; a stream that stays away shows as an event that does not come.
    this.socket.on('error', () => {});
    await within(30_000, 'the event stream opens', new Promise((resolve) => this.socket.once('open', resolve)));
  }

  #take(event) {
    this.events.push(event);
    this.waiting = this.waiting.filter(({ wanted, resolve }) => !wanted(event) || resolve(event));
  }

  /** The first event, past or future, that is wanted. */
  async next(wanted, milliseconds) {
    const seen = this.events.find(wanted);
    const coming = () => new Promise((resolve) => this.waiting.push({ wanted, resolve }));
    return seen ?? within(milliseconds, `an event like ${wanted}`, coming());
  }

  /** Breaks the connection without a farewell. */
  drop() {
    this.socket.terminate();
  }

  /** Takes leave. */
  close() {
    this.socket.close();
  }
}
