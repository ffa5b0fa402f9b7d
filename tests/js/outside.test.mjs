// Real input from outside: a wallet that shares no code with Millrace, on a real anvil and a real node, from deposit to withdrawal.
//
//   deposits (viem) → 200 transfers over HTTP, refusals among them → batches → finality over the WebSocket → money on L1
//   forced exits → state rebuilt from calldata in JavaScript = node's = contract's → proofs verified by snarkjs
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import * as snarkjs from 'snarkjs';
import { hexToBytes, parseEther } from 'viem';
import { EventStream } from './client.mjs';
import { until } from './processes.mjs';
import { addressOf } from './protocol.mjs';
import { rebuild } from './rollup.mjs';
import { Wallet, linkPair, now } from './wallet.mjs';
import { ROLLUP, inWorld } from './world.mjs';

const TRANSFERS = 200;
const FLOOR = 1000n;
const TOKENS = 5_000_000n;
const FINALITY = 600_000;
const BASE_FIELD = 21888242871839275222246405745257275088696311157297823662689037894645226208583n;

// Batches close when they are full, and the last one when the operator says so.
const settings = { sequencer: ['seal_after_ms = 600000', `minimum_fee = ${FLOOR}`] };

// snarkjs leaves its workers running, and this process with them.
after(() => globalThis.curve_bn128?.terminate());

test('200 transfers of a foreign wallet, from deposit to withdrawal', async (t) => {
  await inWorld({ settings, confirmations: 2, blockSeconds: 1 }, async (world) => {
    const story = new Story(world, t);
    await story.step('deposits', () => story.deposit());
    await story.step('refusals', () => story.refusals());
    await story.step('transfers', () => story.transfers());
    await story.step('finality', () => story.finality());
    await story.step('money on L1', () => story.moneyOnL1());
    await story.step('forced exits', () => story.forcedExits());
    await story.step('rebuilding', () => story.rebuilding());
    await story.step('proofs', () => story.proofs());
  });
});

/** One user: an L1 account, a wallet, and an account in the rollup for each token. */
class User {
  constructor(world, number) {
    this.l1 = world.l1Wallet(number);
    this.wallet = world.wallet(this.l1.account.address);
    this.accounts = new Map();
  }

  /** The next nonce of the account of `token`. */
  nonce(token) {
    return this.accounts.get(token).nonce++;
  }

  transfer(token, recipient, amount, options = {}) {
    const fee = options.fee ?? (token === 0 ? FLOOR : 0n);
    return this.wallet.transfer(this.accounts.get(token), options.nonce ?? this.nonce(token), recipient, amount, { ...options, fee });
  }

  withdraw(token, amount) {
    const fee = token === 0 ? FLOOR : 0n;
    return this.wallet.withdraw(this.accounts.get(token), this.nonce(token), amount, { fee });
  }
}

class Story {
  constructor(world, t) {
    Object.assign(this, { world, t, sent: [] });
    this.users = { alice: new User(world, 1), bob: new User(world, 2), carol: new User(world, 3) };
  }

  async step(name, work) {
    const start = Date.now();
    await work();
    this.t.diagnostic(`${name}: ${((Date.now() - start) / 1000).toFixed(1)} s`);
  }

  // ---------------------------------------------------------------------------------------------- in

  /** ETH for alice (twice: a new leaf, then the same one), bob and the operator; an ERC-20 for alice, carol and the operator. */
  async deposit() {
    const { world, users: { alice, bob, carol } } = this;
    const operator = { l1: world.operatorL1, wallet: world.operator, accounts: new Map() };
    this.erc20 = await world.token(TOKENS, [alice, carol, operator].map(({ l1 }) => l1.account.address));
    this.token = Number(await world.view('tokenNumber', this.erc20));
    assert.equal(this.token, 1);
    this.events = new EventStream(world.api.url);
    await this.events.connect();
    const put = (user, token, amount) => world.deposit(user.l1, token, amount, user.wallet.owner);
    const tokens = async (user) => {
      await world.approve(user.l1, this.erc20);
      await put(user, this.token, TOKENS);
    };
    await Promise.all([
      put(alice, 0, parseEther('1')).then(() => put(alice, 0, parseEther('2'))).then(() => tokens(alice)),
      put(bob, 0, parseEther('3')),
      put(operator, 0, parseEther('0.1')).then(() => tokens(operator)),
      tokens(carol),
    ]);
    const credited = async (user, token, balance) => {
      const account = await world.credited(user.wallet, token, balance);
      assert.equal(account.owner, user.wallet.address);
      assert.equal(account.nonce, 0);
      user.accounts.set(token, account);
    };
    for (const user of [alice, bob]) await credited(user, 0, parseEther('3'));
    await credited(operator, 0, parseEther('0.1'));
    for (const user of [alice, carol, operator]) await credited(user, this.token, TOKENS);
    assert.equal(await world.view('outstanding', this.token), 3n * TOKENS);
  }

  // ---------------------------------------------------------------------------------------------- refused

  /** One wrong submission of each kind: status, stable code, and nothing taken. */
  async refusals() {
    const { world: { api }, users: { alice, bob, carol } } = this;
    const to = bob.wallet.owner;
    const ether = (amount, options) => alice.transfer(0, to, amount, { nonce: 0, ...options });
    const signed = (transaction, wallet = alice.wallet) => wallet.sign(transaction).body;
    const tampered = (change) => {
      const body = signed(ether(1000n));
      change(body);
      return body;
    };
    const elsewhere = alice.wallet.domain + 1n;
    // Signed for another rollup without saying so.
    const foreign = new Wallet(alice.wallet.secret, alice.wallet.l1Address, elsewhere);
    const stranger = this.world.wallet(alice.l1.account.address);
    const cases = [
      [422, 'overdrawn', signed(ether(parseEther('3')))],
      [422, 'expired', signed(ether(1000n, { validUntil: now() - 7200n }))],
      [422, 'valid_too_long', signed(ether(1000n, { validUntil: now() + 40n * 86400n }))],
      [422, 'fee_too_low', signed(ether(1000n, { fee: FLOOR - 300n }))],
      [422, 'bad_signature', tampered((body) => (body.transaction.amount = '2000'))],
      [422, 'wrong_domain', tampered((body) => (body.domain = elsewhere.toString()))],
      [422, 'bad_signature', { ...signed(ether(1000n), foreign), domain: undefined }],
      [422, 'not_the_owner', signed(ether(1000n), stranger)],
      [422, 'token_differs', signed({ ...ether(1000n), token: BigInt(this.token), fee: 0n })],
      [422, 'account_missing', signed({ ...ether(1000n), from: 4000n })],
      [422, 'from_is_zero', signed({ ...ether(1000n), from: 0n })],
      [422, 'nothing_to_create_with', signed({ ...ether(0n), recipient: 77n })],
      [409, 'nonce_too_high', signed(ether(1000n, { nonce: 5000 }))],
      [422, 'invalid_field', tampered((body) => (body.transaction.amount = '34359738369'))],
    ];
    for (const [status, code, body] of cases) {
      const answer = await api.submit([body], randomUUID());
      assert.deepEqual([answer.status, answer.body.code], [status, code], JSON.stringify(answer.body));
      assert.equal(answer.headers.get('content-type'), 'application/problem+json');
    }
    const loose = await api.submit([signed(ether(1000n)), carol.wallet.sign(carol.transfer(this.token, to, 5n, { nonce: 0 })).body]);
    assert.deepEqual([loose.status, loose.body.code], [422, 'not_a_pair']);
    assert.equal((await api.account(alice.wallet.address)).balance, parseEther('3').toString());
    assert.equal(this.events.events.filter(({ type }) => type.startsWith('transaction')).length, 0);
  }

  // ---------------------------------------------------------------------------------------------- across

  async transfers() {
    const { world, users: { alice, bob, carol } } = this;
    // The accounts that come to be on the way: a newcomer with a wallet of his own, and the other halves of the swap.
    this.newcomer = new User(world, 4);
    await this.submit([alice.transfer(0, this.newcomer.wallet.owner, parseEther('0.5'))], [alice]);
    const swap = linkPair(
      alice.transfer(0, carol.wallet.owner, parseEther('0.25')), carol.transfer(this.token, alice.wallet.owner, 750_000n),
    );
    await this.submit(swap, [alice, carol]);
    this.newcomer.accounts.set(0, await world.api.account(this.newcomer.wallet.address));
    carol.accounts.set(0, await world.api.account(carol.wallet.address));
    assert.equal(this.newcomer.accounts.get(0).balance, parseEther('0.5').toString());

    const lanes = [
      [alice, 0, bob], [bob, 0, this.newcomer], [this.newcomer, 0, carol], [carol, 0, alice],
      [alice, this.token, carol], [carol, this.token, alice],
    ];
    // Each account's transfers go one after the other; the lanes run side by side.
    const each = Math.ceil((TRANSFERS - 3) / lanes.length);
    let left = TRANSFERS - 3;
    const lane = async ([from, token, to]) => {
      for (let number = 0; number < each && left > 0; number += 1) {
        left -= 1;
        const amount = token === 0 ? 10n ** 12n * BigInt(number + 1) : BigInt(1000 + number);
        await this.submit([from.transfer(token, to.wallet.owner, amount)], [from], number % 8 === 0);
      }
    };
    await Promise.all(lanes.map(lane));
    assert.equal(this.sent.length, TRANSFERS);
    await this.idempotency();

    const self = this.newcomer;
    this.exits = [
      { user: bob, token: 0, amount: 123_456_789_012_345_678n, id: await this.submit([bob.withdraw(0, 123_456_789_012_345_678n)], [bob]) },
      { user: self, token: 0, amount: 7n, id: await this.submit([self.withdraw(0, 7n)], [self]) },
      { user: carol, token: this.token, amount: 1_234_567n, id: await this.submit([carol.withdraw(this.token, 1_234_567n)], [carol]) },
    ];
  }

  /** Signs and submits; the ids must be those that the wallet computed. With `again`, the same request a second time as well. */
  async submit(transactions, users, again = false) {
    const signed = transactions.map((transaction, place) => users[place].wallet.sign(transaction));
    const [bodies, key] = [signed.map(({ body }) => body), randomUUID()];
    const ids = await this.world.api.accept(bodies, key);
    assert.deepEqual(ids, signed.map(({ id }) => id));
    if (again) assert.deepEqual(await this.world.api.accept(bodies, key), ids);
    ids.forEach((id, place) => this.sent.push({ id, transaction: transactions[place], body: bodies[place], key }));
    return ids[0];
  }

  /** A key answers its own request for ever and no other; without a key a repetition is a duplicate. */
  async idempotency() {
    const [first, second] = this.sent;
    const reused = await this.world.api.submit([second.body], first.key);
    assert.deepEqual([reused.status, reused.body.code], [422, 'idempotency_key_reused']);
    const twice = await this.world.api.submit([first.body]);
    assert.deepEqual([twice.status, twice.body.code], [409, 'duplicate']);
    const used = await this.world.api.submit([this.users.alice.wallet.sign({ ...first.transaction, amount: 9n }).body]);
    assert.deepEqual([used.status, used.body.code], [409, 'nonce_too_low']);
  }

  // ---------------------------------------------------------------------------------------------- final

  /** Closes the last batch, breaks the event stream in the middle, and misses nothing. */
  async finality() {
    const { world, events } = this;
    const before = await this.l1Balances();
    const { batch: last } = await world.cli('batch', 'post', '--node', world.api.url);
    this.last = last;
    await events.next(({ type, batch }) => type === 'batch_proven' && batch === 1, FINALITY);
    events.drop();
    const seen = events.events.length;
    await until('something happens meanwhile', async () => (await world.api.get('/status')).last_event > seen, FINALITY);
    await events.connect();
    await events.next(({ type, batch }) => type === 'batch_finalised' && batch === last, FINALITY);
    this.paid = before;
    this.stagesInOrder();
  }

  /** Every batch goes through all its stages in order, and every transaction was accepted once, in the batch that sealed it. */
  stagesInOrder() {
    const all = this.events.events;
    all.forEach((event, place) => assert.equal(event.sequence, place + 1, 'sequence numbers have no gaps'));
    const places = new Map();
    for (let batch = 1; batch <= this.last; batch += 1) {
      const stages = all.filter((event) => event.batch === batch && event.type.startsWith('batch_'));
      assert.deepEqual(stages.map(({ type }) => type), ['batch_sealed', 'batch_committed', 'batch_proven', 'batch_finalised']);
      stages[0].transactions.forEach((id) => places.set(id, batch));
    }
    for (const { id } of this.sent) {
      const accepted = all.filter((event) => event.type === 'transaction_accepted' && event.id === id);
      assert.deepEqual(accepted.map(({ batch }) => batch), [places.get(id)]);
    }
    assert.equal(places.size, this.sent.length);
    assert.ok(!all.some(({ type }) => ['rolled_back', 'transaction_dropped'].includes(type)));
  }

  async l1Balances() {
    const { world } = this;
    const balance = ({ user, token }) => {
      const address = user.l1.account.address;
      return token === 0 ? world.l1.getBalance({ address }) : world.tokenBalance(this.erc20, address);
    };
    return Promise.all(this.exits.map(balance));
  }

  /** The node pays proven withdrawals by itself; the receivers sent nothing meanwhile, so their balances grow by exactly that. */
  async moneyOnL1() {
    const owed = this.exits.map(({ amount }, place) => this.paid[place] + amount);
    const arrived = async () => (await this.l1Balances()).every((balance, place) => balance === owed[place]);
    await until('the withdrawals are on L1', arrived);
    for (const { id } of this.exits) assert.equal((await this.world.api.get(`/v1/transactions/${id}`)).stage, 'finalised');
    const left = 3n * TOKENS - 1_234_567n;
    assert.equal(await this.world.view('outstanding', this.token), left);
    assert.equal(await this.world.tokenBalance(this.erc20, this.world.contract), left);
  }

  /** Without asking the node: the newcomer leaves with all he has, and nobody leaves with what is another's. */
  async forcedExits() {
    const { world, events, newcomer, users: { alice } } = this;
    const account = await world.api.account(newcomer.wallet.address);
    await world.requestExit(newcomer.l1, account, newcomer.wallet.key);
    await world.requestExit(alice.l1, account, alice.wallet.key);
    const address = newcomer.l1.account.address;
    const before = await world.l1.getBalance({ address });
    const { batch } = await events.next(({ type, request }) => type === 'forced_exit_taken' && request === 8, FINALITY);
    assert.equal((await world.cli('batch', 'post', '--node', world.api.url)).batch, batch);
    await events.next((event) => event.type === 'batch_finalised' && event.batch === batch, FINALITY);
    this.last = batch;
    this.stagesInOrder();
    const { requests } = await world.api.get(`/v1/batches/${batch}`);
    assert.deepEqual(requests.map(({ kind, amount }) => [kind, amount]), [['forced_exit', account.balance], ['forced_exit', '0']]);
    const arrived = async () => (await world.l1.getBalance({ address })) === before + BigInt(account.balance);
    await until('the forced exit is on L1', arrived);
    // What was signed before is void: the nonce jumped.
    assert.equal((await world.api.account(newcomer.wallet.address)).nonce, account.nonce + 65_536);
  }

  // ---------------------------------------------------------------------------------------------- checked

  /** Leaves, owners, ids, commitments, roots: this side's, the node's and the contract's are the same. */
  async rebuilding() {
    const { world } = this;
    const options = { client: world.l1, contract: world.contract, abi: ROLLUP, fromBlock: BigInt(world.deployed.from_block) };
    const { state, requests, batches } = await rebuild(options);
    this.batches = batches;
    assert.equal(batches.length, this.last);
    assert.equal(requests.size, 9);
    const status = await world.view('status');
    assert.equal(state.root(), status.provenRoot);
    assert.equal(state.root().toString(), (await world.api.get('/status')).state_root);
    for (const batch of batches) {
      const view = await world.api.get(`/v1/batches/${batch.number}`);
      assert.ok(batch.isProven);
      assert.equal(batch.declared, batch.publicInputs[0]);
      assert.deepEqual(view.public_inputs, batch.publicInputs.map(String));
      assert.equal(view.new_root, batch.root.toString());
      assert.equal(view.committed.transaction, batch.transaction);
    }
    await this.accounts(state);
    const restored = await world.cli(
      'restore', '--l1', world.l1Url, '--contract', world.contract, '--data-dir', join(world.folder, 'restored'),
      '--expect-root', state.root().toString(),
    );
    assert.ok(restored.is_proven_root);
  }

  async accounts(state) {
    const { world, users: { alice, bob, carol } } = this;
    const held = new Map();
    for (const [index, account] of state.accounts()) {
      const view = await world.api.get(`/v1/accounts/${index}`);
      const { owner, token, nonce, balance } = account;
      const expected = [addressOf(owner), Number(token), Number(nonce), balance.toString()];
      assert.deepEqual([view.owner, view.token, view.nonce, view.balance], expected);
      held.set(token, (held.get(token) ?? 0n) + balance);
    }
    // Nothing was made and nothing was lost: what all accounts hold is what the contract owes.
    for (const [token, sum] of held) assert.equal(sum, await world.view('outstanding', Number(token)));
    assert.equal(held.size, 2);
    const owners = [alice, bob, carol, this.newcomer].map(({ wallet }) => wallet.owner).concat(world.operator.owner);
    assert.deepEqual(new Set(state.accounts().map(([, { owner }]) => owner)), new Set(owners));
    const fees = this.sent.reduce((sum, { transaction }) => sum + transaction.fee, 0n);
    const operator = state.accounts().find(([, { owner, token }]) => owner === world.operator.owner && token === 0n);
    assert.equal(operator[1].balance, parseEther('0.1') + fees);
  }

  /** The exported proof of a batch, by snarkjs and by `millrace verify`; the key is the one that the contract trusts. */
  async proofs() {
    const { world } = this;
    const { number, publicInputs, decoded } = this.batches[0];
    const folder = join(world.folder, 'export');
    await world.cli('batch', 'show', `${number}`, '--node', world.api.url, '--export', folder);
    const { keys: [key] } = await world.cli('setup', '--circuits', `${decoded.circuitId}`, '--export', folder);
    const read = async (path) => JSON.parse(await readFile(path, 'utf8'));
    const [proof, inputs, verifying] = [
      await read(join(folder, 'proof.json')), await read(join(folder, 'public.json')), await read(key.exported),
    ];
    assert.deepEqual(inputs, publicInputs.map(String));
    assert.ok(await snarkjs.groth16.verify(verifying, inputs, proof));
    const lie = [...inputs.slice(0, 2), (BigInt(inputs[2]) + 1n).toString()];
    assert.ok(!(await snarkjs.groth16.verify(verifying, lie, proof)));
    await this.keyOnChain(decoded.circuitId, verifying);

    const files = ['--proof', join(folder, 'proof.json'), '--key', key.exported];
    const valid = await world.cli('verify', ...files, '--public', join(folder, 'public.json'));
    assert.deepEqual(valid, { valid: true, public_inputs: inputs });
    await writeFile(join(folder, 'lie.json'), JSON.stringify(lie));
    const refused = await world.cliOutcome('verify', ...files, '--public', join(folder, 'lie.json'));
    assert.equal(refused.code, 7);
    assert.equal(JSON.parse(refused.stdout.trim().split('\n').at(-1)).error.code, 'verification');
  }

  /** §6: a key is the code of a contract of its own, 0x00, then −α, β, −γ, −δ, IC_0 … IC_3; G2 points imaginary part first. */
  async keyOnChain(circuitId, verifying) {
    const [, , holder] = await this.world.view('circuit', circuitId);
    const code = await this.world.l1.getCode({ address: holder });
    const negated = (y) => (BASE_FIELD - BigInt(y)).toString();
    const g1 = ([x, y]) => [x, y];
    const g2 = ([x, y]) => [x[1], x[0], y[1], y[0]];
    const minusG2 = ([x, y]) => g2([x, y.map(negated)]);
    const [alphaX, alphaY] = verifying.vk_alpha_1;
    const words = [
      alphaX, negated(alphaY), ...g2(verifying.vk_beta_2), ...minusG2(verifying.vk_gamma_2), ...minusG2(verifying.vk_delta_2),
      ...verifying.IC.flatMap(g1),
    ];
    const expected = `0x00${words.map((word) => BigInt(word).toString(16).padStart(64, '0')).join('')}`;
    assert.equal(hexToBytes(code).length, 1 + 22 * 32);
    assert.equal(code, expected);
  }
}
