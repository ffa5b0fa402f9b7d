// What an open port must survive: wrong, hostile and repeated input over real HTTP, each with its status and stable code, and
// nothing taken or lost by it, not even when the node is killed in the middle.
//
//   cases by hand (one per rule) · requests made from the API's description · bytes that are no HTTP · kill -9 and a restart
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { test } from 'node:test';
import { parseEther } from 'viem';
import WebSocket from 'ws';
import { EventStream } from './client.mjs';
import { NASTY, NASTY_JSON, OpenApi, random } from './openapi.mjs';
import { until, within } from './processes.mjs';
import { R, SUBGROUP_ORDER, poseidon } from './protocol.mjs';
import { linkPair, now } from './wallet.mjs';
import { inWorld } from './world.mjs';

const BODY_LIMIT = 65_536;
const JSON_TYPE = { 'content-type': 'application/json' };
// It orders and does not prove, closes batches only when they are full, and keeps events, streams and bodies short.
const options = {
  roles: ['sequencer'],
  settings: { sequencer: ['seal_after_ms = 600000', 'circuits = [1]'], api: [`max_body_bytes = ${BODY_LIMIT}`, 'max_event_streams = 4'] },
};

test('hostile input is refused by name and changes nothing', async (t) => {
  await inWorld(options, async (world) => {
    const abuse = await Abuse.start(world);
    for (const part of ['bodies', 'fields', 'transactions', 'signatures', 'waiting', 'pairs', 'keys', 'routes', 'streams', 'bytes', 'described', 'mutated']) {
      const start = Date.now();
      await abuse[part]();
      await abuse.nothingChanged(part);
      t.diagnostic(`${part}: ${Date.now() - start} ms`);
    }
    await abuse.killed();
  });
});

class Abuse {
  static async start(world) {
    const abuse = new Abuse();
    Object.assign(abuse, { world, api: world.api, description: await OpenApi.read() });
    const l1 = world.l1Wallet(1);
    [abuse.alice, abuse.bob] = [world.wallet(l1.account.address), world.wallet(l1.account.address)];
    for (const wallet of [abuse.alice, abuse.bob]) await world.deposit(l1, 0, parseEther('1'), wallet.owner);
    for (const wallet of [abuse.alice, abuse.bob]) wallet.account = await world.credited(wallet, 0, parseEther('1'));
    abuse.nonce = 0;
    abuse.expected = { accepted: 0, balance: parseEther('1') };
    return abuse;
  }

  // ---------------------------------------------------------------------------------------------- helpers

  /** A transfer of 1,000 wei from alice to bob that would be taken. */
  good(changes = {}) {
    return { ...this.alice.transfer(this.alice.account, this.nonce, this.bob.owner, 1000n), ...changes };
  }

  signed(changes, wallet = this.alice) {
    return wallet.sign(this.good(changes)).body;
  }

  post(body, headers = JSON_TYPE) {
    return this.api.request('POST', '/v1/transactions', { body, headers });
  }

  expect(answer, status, code, what) {
    assert.deepEqual([answer.status, answer.body?.code], [status, code], `${what}: ${JSON.stringify(answer.body)}`.slice(0, 600));
    const faults = this.description.mismatches({ $ref: 'Problem' }, answer.body, 'problem');
    assert.deepEqual(faults, []);
    assert.equal(answer.headers.get('content-type'), 'application/problem+json');
    assert.equal(answer.body.status, status);
    assert.ok(answer.headers.get('x-request-id'), 'every answer has a request id');
  }

  async refused(bodies, status, code, what = code) {
    this.expect(await this.api.submit([bodies].flat()), status, code, what);
  }

  /** Still alive, same balances, no event of a transaction beyond those taken; and a good transfer is taken at once. */
  async nothingChanged(part) {
    const account = async (wallet) => this.api.account(wallet.address);
    const [alice, bob] = [await account(this.alice), await account(this.bob)];
    assert.equal(alice.nonce, this.nonce, `${part} took a nonce`);
    assert.equal(alice.balance, this.expected.balance.toString(), `${part} took money`);
    assert.equal(bob.nonce, 0);
    const [{ id, body }, key] = [this.alice.sign(this.good()), randomUUID()];
    assert.deepEqual(await this.api.accept([body], key), [id]);
    [this.nonce, this.expected.balance] = [this.nonce + 1, this.expected.balance - 1000n];
    this.expected.accepted += 1;
    this.last = { id, body, key };
  }

  // ---------------------------------------------------------------------------------------------- by hand

  async bodies() {
    const good = JSON.stringify({ transactions: [this.signed()] });
    const malformed = ['', '{', `${good} x`, `${good}${good}`, good.slice(0, -1), '\u0000', '[', 'nul', '"', '['.repeat(20_000),
      `{"transactions":${'['.repeat(5_000)}`, new Uint8Array([0xff, 0xfe, 0x7b])];
    for (const body of malformed) this.expect(await this.post(body), 400, 'malformed_json', String(body).slice(0, 40));
    for (const body of ['null', '1', '"x"', '[]', '{}', '{"transactions":null}', '{"transactions":{}}', '{"transactions":[]}', '{"transactions":[1]}']) {
      this.expect(await this.post(body), 422, 'invalid_field', body);
    }
    this.expect(await this.post(good.replace('{', '{"more":1,')), 422, 'invalid_field', 'unknown field');
    this.expect(await this.post(good.replace('"link"', '"nonce":1,"link"')), 422, 'invalid_field', 'field twice');
    const three = JSON.stringify({ transactions: [this.signed(), this.signed(), this.signed()] });
    this.expect(await this.post(three), 422, 'invalid_field', 'three transactions');
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/jsonp', '', 'application/json-patch+json']) {
      this.expect(await this.post(good, { 'content-type': type }), 415, 'unsupported_media_type', type);
    }
    this.expect(await this.post(`${' '.repeat(BODY_LIMIT)}${good}`), 413, 'body_too_large', 'too large');
    const chunked = new ReadableStream({
      start(controller) {
        for (let sent = 0; sent <= BODY_LIMIT; sent += 8192) controller.enqueue(new Uint8Array(8192).fill(32));
        controller.close();
      },
    });
    const response = await fetch(`${this.api.url}/v1/transactions`, { method: 'POST', body: chunked, headers: JSON_TYPE, duplex: 'half' });
    const answer = { status: response.status, headers: response.headers, body: await response.json() };
    this.expect(answer, 413, 'body_too_large', 'too large in chunks of unknown number');
  }

  async fields() {
    const cases = {
      kind: ['Transfer', 'deposit', 3, null], from: [-1, 16777216, '1', 1.5, null, 2 ** 53], nonce: [-1, 2 ** 40, '0', 0.5], token: [-1, 2 ** 32, '0'],
      amount: ['', '-1', '1.0', '1e3', ' 1', '0x1', 1, null, (1n << 128n).toString(), ((1n << 35n) + 1n).toString(), '9'.repeat(200)],
      amount_code: [2 ** 40, -1, '1', 7], fee: ['-1', '71', 1, (1n << 128n).toString()], fee_code: [256, -1, 1],
      recipient: [null, '', 'mlr1', this.bob.address.slice(0, -1), this.bob.address.replace(/.$/, (c) => (c === 'q' ? 'p' : 'q')), `0x${'11'.repeat(32)}`, 1],
      link: [R.toString(), '-1', 0, ''], valid_until: [-1, 2 ** 53, '1', 1e300],
    };
    for (const [field, values] of Object.entries(cases)) {
      for (const value of values) {
        const body = this.signed();
        body.transaction[field] = value;
        await this.refused(body, 422, 'invalid_field', `${field} = ${value}`);
      }
    }
    const body = this.signed();
    delete body.transaction.nonce;
    await this.refused(body, 422, 'invalid_field', 'no nonce');
    for (const field of ['l1_address', 'key', 'signature', 'transaction']) {
      const { [field]: _, ...rest } = this.signed();
      await this.refused(rest, 422, 'invalid_field', `no ${field}`);
    }
    const withdrawal = this.alice.sign(this.alice.withdraw(this.alice.account, this.nonce, 5n)).body;
    for (const extra of [{ recipient: this.bob.address }, { amount_code: 5 }]) {
      await this.refused({ ...withdrawal, transaction: { ...withdrawal.transaction, ...extra } }, 422, 'invalid_field', JSON.stringify(extra));
    }
  }

  async transactions() {
    const { alice, bob } = this;
    await this.refused(this.signed({ from: 0n }), 422, 'from_is_zero');
    await this.refused(this.signed({ from: 16777215n }), 422, 'account_missing');
    await this.refused(this.signed({ from: BigInt(bob.account.index) }), 422, 'not_the_owner');
    await this.refused(this.signed({ token: 9n }), 422, 'token_differs');
    await this.refused(this.signed({ fee: 1n }), 422, 'fee_not_collectable');
    await this.refused(this.signed({ validUntil: now() - 7200n }), 422, 'expired');
    await this.refused(this.signed({ validUntil: 0n }), 422, 'expired', 'valid until 1970');
    await this.refused(this.signed({ validUntil: now() + 31n * 86400n }), 422, 'valid_too_long');
    await this.refused(this.signed({ amount: parseEther('2') }), 422, 'overdrawn');
    await this.refused(this.signed({ amount: 10n ** 28n, recipient: alice.owner }), 422, 'overdrawn', 'overdrawn by paying oneself');
    await this.refused(alice.sign(alice.withdraw(alice.account, this.nonce, (1n << 128n) - 1n)).body, 422, 'overdrawn', 'the largest amount');
    await this.refused(this.signed({ amount: 0n, recipient: 77n }), 422, 'nothing_to_create_with');
    await this.refused(this.signed({ nonce: BigInt(this.nonce) + 1025n }), 409, 'nonce_too_high');
    await this.refused(this.signed({ nonce: (1n << 40n) - 1n }), 409, 'nonce_too_high', 'the last nonce');
    if (this.nonce > 0) await this.refused(this.signed({ nonce: 0n }), 409, 'nonce_too_low');
    await this.refused({ ...this.signed(), domain: '1' }, 422, 'wrong_domain');
    const elsewhere = Object.assign(Object.create(Object.getPrototypeOf(alice)), alice, { domain: 1n });
    await this.refused({ ...elsewhere.sign(this.good()).body, domain: undefined }, 422, 'bad_signature', 'signed for elsewhere');
    if (this.last) await this.refused(this.last.body, 409, 'duplicate');
  }

  async signatures() {
    const { alice, bob } = this;
    const change = (edit) => {
      const body = this.signed();
      edit(body);
      return body;
    };
    const s = (value) => change((body) => (body.signature.s = value(BigInt(body.signature.s)).toString()));
    const cases = {
      'another amount': change((body) => (body.transaction.amount = '2000')),
      'another recipient': change((body) => (body.transaction.recipient = alice.address)),
      'another nonce within reach': change((body) => (body.transaction.nonce += 1)),
      'another time': change((body) => (body.transaction.valid_until += 1)),
      'a link': change((body) => (body.transaction.link = '5')),
      'S + 1': s((value) => value + 1n),
      'S + l: the same signature in another form': s((value) => value + SUBGROUP_ORDER),
      '-S': s((value) => SUBGROUP_ORDER - value),
      'S = 0': s(() => 0n),
      'R8 off the curve': change((body) => (body.signature.r8.x = '1')),
      'R8 the identity': change((body) => (body.signature.r8 = { x: '0', y: '1' })),
      '-R8': change((body) => (body.signature.r8.x = (R - BigInt(body.signature.r8.x)).toString())),
      'of another key': { ...this.signed(), signature: bob.sign(this.good()).body.signature },
    };
    for (const [what, body] of Object.entries(cases)) await this.refused(body, 422, 'bad_signature', what);
    for (const y of ['1', (R - 1n).toString()]) {
      await this.refused(change((body) => (body.key = { x: '0', y })), 422, 'bad_signature', 'a key of low order');
    }
    await this.refused(change((body) => (body.l1_address = `0x${'00'.repeat(20)}`)), 422, 'not_the_owner', 'another L1 address');
    await this.refused(change((body) => (body.signature.s = R.toString())), 422, 'invalid_field', 'S is no word');
  }

  /** Nonces ahead wait, within their bounds; what waits is never executed out of order, and expires with its account's turn. */
  async waiting() {
    const ahead = (distance, amount = 1000n) => this.signed({ nonce: BigInt(this.nonce + distance), amount });
    const key = randomUUID();
    const early = ahead(1);
    const [second] = await this.api.accept([early], key);
    assert.equal((await this.api.get(`/v1/transactions/${second}`)).stage, 'waiting');
    assert.deepEqual(await this.api.accept([early], key), [second], 'it waits once');
    await this.refused(ahead(1, 3000n), 409, 'nonce_taken');
    assert.equal((await this.api.account(this.alice.address)).nonce, this.nonce, 'nothing ran out of order');
    const [first] = await this.api.accept([ahead(0)]);
    for (const id of [first, second]) assert.equal((await this.api.get(`/v1/transactions/${id}`)).stage, 'accepted');
    [this.nonce, this.expected.balance] = [this.nonce + 2, this.expected.balance - 2000n];
    const { limits } = await this.api.get('/v1/info');
    for (let distance = 1; distance <= limits.waiting_per_account; distance += 1) {
      const { status, body } = await this.api.submit([this.bobAhead(distance)]);
      assert.equal(status, 202, JSON.stringify(body));
    }
    this.expect(await this.api.submit([this.bobAhead(limits.waiting_per_account + 1)]), 429, 'account_queue_full', 'one more');
  }

  bobAhead(distance) {
    return this.bob.sign(this.bob.transfer(this.bob.account, distance, this.alice.owner, 1n)).body;
  }

  async pairs() {
    const { alice, bob } = this;
    const [one, other] = linkPair(this.good(), bob.transfer(bob.account, 0, alice.owner, 2000n));
    const pair = [alice.sign(one).body, bob.sign(other).body];
    const poor = linkPair(this.good(), bob.transfer(bob.account, 0, alice.owner, parseEther('5')));
    await this.refused([alice.sign(poor[0]).body, bob.sign(poor[1]).body], 422, 'overdrawn', 'half of a pair cannot pay');
    await this.refused([pair[0], pair[0]], 422, 'not_a_pair', 'a transaction with itself');
    await this.refused([this.signed(), bob.sign(other).body], 422, 'not_a_pair', 'linked from one side');
    await this.refused([pair[0], bob.sign({ ...other, link: 0n }).body], 422, 'not_a_pair', 'linked from the other side');
    await this.refused([pair[0], { ...pair[1], signature: pair[0].signature }], 422, 'bad_signature', 'half of a pair is forged');
  }

  async keys() {
    const body = JSON.stringify({ transactions: [this.signed()] });
    for (const key of ['', ' ', 'a b', 'k'.repeat(257), '\u00e4']) {
      this.expect(await this.post(body, { ...JSON_TYPE, 'idempotency-key': key }), 400, 'invalid_idempotency_key', `key ${key}`);
    }
    const twice = ['POST /v1/transactions HTTP/1.1', 'host: x', 'connection: close', 'content-type: application/json',
      `content-length: ${Buffer.byteLength(body)}`, 'idempotency-key: a', 'idempotency-key: b', '', body];
    assert.match(await this.raw(twice.join('\r\n')), /400 Bad Request[\s\S]*invalid_idempotency_key/);
    if (!this.last) return;
    this.expect(await this.api.submit([this.signed()], this.last.key), 422, 'idempotency_key_reused', 'a key for something else');
    assert.deepEqual(await this.api.accept([this.last.body], this.last.key), [this.last.id], 'the first answer is given again');
  }

  async routes() {
    for (const path of ['/v1', '/v2/info', '/v1/batches/1/x', '//v1/info', '/v1/info/', '/%2e%2e/etc/passwd', '/v1/transactions']) {
      const answer = await this.api.request('GET', path);
      if (path === '/v1/transactions') this.expect(answer, 405, 'method_not_allowed', path);
      else this.expect(answer, 404, 'route_unknown', path);
    }
    for (const method of ['DELETE', 'PUT', 'PATCH']) {
      this.expect(await this.api.request(method, '/v1/info'), 405, 'method_not_allowed', method);
    }
    for (const query of ['limit=0', 'limit=1001', 'limit=-1', 'limit=x', 'limit=1&limit=2', 'more=1', 'limit=1.5']) {
      this.expect(await this.api.request('GET', `/v1/batches?${query}`), 400, 'invalid_parameter', query);
    }
    this.expect(await this.api.request('GET', '/v1/batches?cursor=zzz'), 400, 'invalid_cursor', 'cursor');
    this.expect(await this.api.request('GET', '/v1/accounts/0'), 404, 'account_unknown', 'account 0');
    this.expect(await this.api.request('GET', `/v1/transactions/0x${'11'.repeat(32)}`), 404, 'transaction_unknown', 'unknown id');
    this.expect(await this.api.request('GET', '/v1/batches/999/proof'), 404, 'batch_unknown', 'unknown batch');
    this.expect(await this.api.request('GET', '/v1/requests/999'), 404, 'request_unknown', 'unknown request');
    const page = { origin: 'https://evil.example' };
    for (const path of ['/v1/batches/seal', '/v1/prover/jobs/x/retry']) {
      this.expect(await this.api.request('POST', path, { headers: page }), 403, 'forbidden', 'a web page operates');
    }
    const prover = { method: 'POST', path: '/v1/prover/exchange' };
    const stranger = await this.api.request(prover.method, prover.path, { body: '{}', headers: JSON_TYPE });
    assert.ok([401, 403].includes(stranger.status), 'no stranger proves');
  }

  async streams() {
    this.expect(await this.api.request('GET', '/v1/events'), 400, 'invalid_parameter', 'no WebSocket');
    const open = (query) => new Promise((resolve) => {
      const socket = new WebSocket(`${this.api.url.replace('http', 'ws')}/v1/events${query}`);
      socket.once('open', () => resolve({ socket, status: 101 }));
      socket.once('unexpected-response', (_, response) => resolve({ status: response.statusCode }));
      socket.on('error', () => {});
    });
    for (const query of ['?from=-1', '?from=x', '?transaction=x', '?more=1']) assert.equal((await open(query)).status, 400, query);
    const streams = [];
    for (let place = 0; place < 4; place += 1) streams.push((await open('?from=1')).socket);
    assert.equal((await open('')).status, 503);
    // A client has nothing to say: too long a message ends its stream and nobody else's.
    const ended = new Promise((resolve) => streams[0].once('close', resolve));
    streams[0].send('x'.repeat(100_000));
    await within(20_000, 'a stream that shouts is ended', ended);
    for (const socket of streams.slice(1)) socket.terminate();
    const fits = async () => {
      const { socket, status } = await open('?from=1');
      socket?.close();
      return status === 101;
    };
    await until('the places of those who left are free', fits, 30_000);
    const events = new EventStream(this.api.url);
    await events.connect();
    const { last_event: last } = await this.api.get('/status');
    await events.next(({ sequence }) => sequence === last, 20_000);
    for (const event of events.events) assert.deepEqual(this.description.mismatches({ $ref: 'EventView' }, event, 'event'), []);
    const accepted = events.events.filter(({ type }) => type === 'transaction_accepted').length;
    // Two more than one for each part: those that waited for each other.
    assert.equal(accepted, this.expected.accepted + 2);
    events.close();
  }

  // ---------------------------------------------------------------------------------------------- bytes

  /** Sends bytes as they are; what comes back until the node hangs up. */
  raw(bytes, patience = 10_000) {
    const { hostname, port } = new URL(this.api.url);
    return within(patience + 5_000, 'the node answers or hangs up', new Promise((resolve) => {
      const socket = connect(Number(port), hostname, () => socket.write(bytes));
      let answer = '';
      socket.setTimeout(patience, () => socket.destroy());
      socket.on('data', (data) => (answer += data));
      socket.on('error', () => {});
      socket.on('close', () => resolve(answer));
    }));
  }

  async bytes() {
    const refused = [
      'GET / HTTP/9.9\r\n\r\n', '\u0000\u0001\u0002\u0003\r\n\r\n', 'GET /v1/info HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n', 'NONSENSE\r\n\r\n',
      `GET /${'x'.repeat(100_000)} HTTP/1.1\r\nhost: x\r\n\r\n`, `GET / HTTP/1.1\r\nhost: x\r\n${'a: b\r\n'.repeat(2000)}\r\n`,
      'POST /v1/transactions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
    ];
    for (const bytes of refused) {
      const answer = await this.raw(bytes, 3_000);
      assert.doesNotMatch(answer, /^HTTP\/1.1 (2|5)/, JSON.stringify(bytes.slice(0, 60)));
    }
    // Requests that never end hold no more than their own connection.
    const { hostname, port } = new URL(this.api.url);
    const slow = Array.from({ length: 50 }, () => connect(Number(port), hostname));
    slow.forEach((socket) => {
      socket.on('error', () => {});
      socket.write('POST /v1/transactions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{');
    });
    await Promise.all(Array.from({ length: 20 }, () => this.api.get('/v1/info')));
    slow.forEach((socket) => socket.destroy());
  }

  // ---------------------------------------------------------------------------------------------- from the description

  /** Every operation with every nasty parameter: no fault of the node, and every answer as documented. */
  async described() {
    const found = [];
    for (const entry of this.description.operations()) {
      if (entry.method !== 'GET' || entry.path === '/v1/events') continue;
      const inPath = /\{\w+\}/.test(entry.path);
      const queries = (entry.operation.parameters ?? []).filter((parameter) => parameter.in === 'query').map(({ name }) => name);
      const ask = async (path) => {
        const answer = await this.api.request('GET', path);
        const faults = answer.status === 404 && answer.body.code === 'route_unknown' ? [] : this.description.faults(entry, answer);
        if (answer.status >= 500) faults.push(`status ${answer.status}`);
        found.push(...faults.map((fault) => `GET ${path.slice(0, 120)}: ${fault}`));
      };
      for (const text of inPath ? NASTY : ['']) await ask(entry.path.replace(/\{\w+\}/, escape(text)));
      const base = entry.path.replace('{index}', this.alice.account.index);
      for (const name of queries) for (const text of NASTY) await ask(`${base}?${name}=${escape(text)}`);
    }
    // What exists, as well: every view of this node fits its schema.
    for (const path of [`/v1/accounts/${this.alice.account.index}`, `/v1/transactions/${this.last.id}`, `/v1/owners/${this.alice.address}/accounts`,
      '/v1/requests/0', '/v1/batches/1', '/status', '/v1/info', '/v1/tokens']) {
      const answer = await this.api.request('GET', path);
      const pattern = (documented) => new RegExp(`^${documented.replace(/\{\w+\}/g, '[^/]+')}$`).test(path);
      const entry = this.description.operations().find((operation) => operation.method === 'GET' && pattern(operation.path));
      found.push(...this.description.faults(entry, answer).map((fault) => `GET ${path}: ${fault}`));
    }
    assert.deepEqual(found, []);
  }

  /** A good submission with one to three values anywhere replaced: always a problem of the client, never taken, never a fault. */
  async mutated() {
    const { below, pick } = random(20_260_101);
    const entry = this.description.operations().find(({ method, path }) => method === 'POST' && path === '/v1/transactions');
    const good = { transactions: [this.signed()] };
    for (let round = 0; round < 600; round += 1) {
      const body = structuredClone(good);
      for (let count = 1 + below(3); count > 0; count -= 1) {
        const [place, value] = [pick([...places(body)]), pick(NASTY_JSON)];
        if (place === undefined || place.parent[place.key] === value) continue;
        if (below(6) === 0 && !Array.isArray(place.parent)) delete place.parent[place.key];
        else place.parent[place.key] = value;
      }
      const text = JSON.stringify(body);
      if (isHarmless(body, good)) continue;
      const answer = await this.post(text);
      assert.ok(answer.status >= 400 && answer.status < 500, `${answer.status} for ${text.slice(0, 400)}`);
      assert.deepEqual(this.description.faults(entry, answer), [], text.slice(0, 400));
    }
  }

  // ---------------------------------------------------------------------------------------------- killed

  /** kill -9 while submissions come in: whatever was acknowledged is there afterwards, once, and the rest can be sent again. */
  async killed() {
    const { world, alice } = this;
    const bodies = Array.from({ length: 30 }, (_, place) => alice.sign(this.good({ nonce: BigInt(this.nonce + place) })));
    const acknowledged = [];
    const sending = (async () => {
      for (const [place, { id, body }] of bodies.entries()) {
        const answer = await this.api.submit([body], `kill-${place}`).catch(() => undefined);
        if (answer?.status !== 202) return;
        acknowledged.push(id);
      }
    })();
    await until('some are acknowledged', () => acknowledged.length >= 8);
    await world.node.stop('SIGKILL');
    await sending;
    await world.startNode();
    this.api = world.api;
    for (const id of [...acknowledged, this.last.id]) {
      assert.ok(['accepted', 'sealed', 'committed'].includes((await this.api.get(`/v1/transactions/${id}`)).stage), id);
    }
    for (const [place, { id, body }] of bodies.entries()) assert.deepEqual(await this.api.accept([body], `kill-${place}`), [id]);
    const account = await this.api.account(alice.address);
    assert.equal(account.nonce, this.nonce + bodies.length);
    assert.equal(account.balance, (this.expected.balance - 1000n * BigInt(bodies.length)).toString(), 'each of them once');
  }
}

/** All places of a JSON value that can be replaced. */
function* places(value) {
  if (value === null || typeof value !== 'object') return;
  for (const key of Object.keys(value)) {
    yield { parent: value, key };
    yield* places(value[key]);
  }
}

/** Whether a mutation leaves the submission's meaning: only what is optional or says the same differs. */
function isHarmless(body, good) {
  const meaning = (submission) => {
    const [first, ...rest] = [submission?.transactions].flat();
    if (!first?.transaction) return undefined;
    const { domain: _, ...signed } = first;
    const { amount_code: _a, fee_code: _f, ...terms } = first.transaction;
    const link = 'link' in terms ? terms.link : '0';
    return JSON.stringify([Object.entries({ ...terms, link }).sort(), signed.l1_address, signed.key, signed.signature, rest, Object.keys(submission).length]);
  };
  return meaning(body) === meaning(good);
}

function escape(text) {
  return text.includes('%') ? text : encodeURIComponent(text);
}
