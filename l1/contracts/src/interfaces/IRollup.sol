// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title  Millrace rollup, version 1
/// @notice Holds the money of everyone in the rollup, takes batches and their proofs, pays who leaves. Immutable: no
///         owner, no upgrade, no pause; the operator can order transactions and nothing else.
///
/// Flow:
///   registerToken → deposit / requestExit (queue of requests, in order)
///   → commitBatch → proveBatches, or commitAndProve → payWithdrawals → claim, if a payment failed
///   proof overdue → revertBatches; request overdue → enterEscape → escapeExit, cancelDeposit, for ever.
///
/// Numbers: token 0 is ETH, ERC-20s count from 1; batches count from 1; requests count from 0. Every time is in Unix
/// seconds. `r` is the scalar field of BN254, `q` its base field; a word is an integer below r.
interface IRollup {
    // ------------------------------------------------------------------------------------------------ types

    /// @notice A Groth16 verifying key over BN254, as the setup made it: nothing negated. G2 points are in the order of
    ///         the precompiles, imaginary part first: [x.c1, x.c0, y.c1, y.c0].
    /// @param  ic one point for the constant and one for each public input: 4
    struct VerifyingKey {
        uint256[2] alpha;
        uint256[4] beta;
        uint256[4] gamma;
        uint256[4] delta;
        uint256[2][] ic;
    }

    /// @notice A size of batch.
    /// @param  id     circuit id, the low 16 bits of d[0]; not 0
    /// @param  l1Rows capacity Q of L1 rows
    /// @param  txRows capacity N of transaction rows, even
    struct Circuit {
        uint16 id;
        uint16 l1Rows;
        uint16 txRows;
        VerifyingKey key;
    }

    /// @notice What a deployment fixes for ever.
    /// @param  operator       who may commit outside the open phase
    /// @param  ceremony       hash of the setup ceremony's transcript
    /// @param  requestFee     base fee of a request, in wei
    /// @param  requestSpacing seconds between the deadlines of two requests at the least: what one small machine
    ///                        sustains per request; at most MAX_REQUEST_SPACING
    /// @param  circuits       1 to 4 of them, with distinct ids
    struct Config {
        address operator;
        bytes32 ceremony;
        uint128 requestFee;
        uint32 requestSpacing;
        Circuit[] circuits;
    }

    /// @notice A request to the rollup; the contract stores keccak256(abi.encode(request)).
    /// @param  kind     1 = Deposit, 2 = ForcedExit
    /// @param  index    ForcedExit: the leaf; Deposit: 0
    /// @param  token    token number
    /// @param  amount   Deposit: what arrived; ForcedExit: 0
    /// @param  sender   Deposit: who paid and is paid back if it is refused or cancelled; ForcedExit: who receives
    /// @param  owner    Deposit: Poseidon(L1 address, A.x, A.y) of the recipient; ForcedExit: 0
    /// @param  ax       ForcedExit: A.x of the leaf's key; Deposit: 0
    /// @param  ay       ForcedExit: A.y of the leaf's key; Deposit: 0
    /// @param  created  block time of the request
    /// @param  deadline after this time, if not proven, anyone may freeze the rollup
    struct Request {
        uint8 kind;
        uint24 index;
        uint32 token;
        uint128 amount;
        address sender;
        uint256 owner;
        uint256 ax;
        uint256 ay;
        uint64 created;
        uint64 deadline;
    }

    /// @notice A request that a batch consumes, and what it did.
    /// @param  result Deposit: the index of the leaf that was credited, 0 = refused; ForcedExit: the amount that left
    struct L1Row {
        Request request;
        uint128 result;
    }

    /// @notice The posted data of a batch. The contract itself adds domain, batch number and old root.
    /// @param  circuitId   picks capacities, offsets and verifying key
    /// @param  timestamp   max(the last batch's, block time − 2 h) ≤ timestamp ≤ block time
    /// @param  newRoot     state root after the batch
    /// @param  feeLeaves   d[4]: Σ index_k·2^(24k), below 2^240
    /// @param  commitment  C, the Poseidon commitment to the whole data vector d
    /// @param  beneficiary gets half of the request fees, bound by the proof
    /// @param  l1Rows      the next requests of the queue, in order, without gaps
    /// @param  rows        transaction rows, 12 bytes each: from (3), to (3), float40 amount (5), fee (1); an even
    ///                     number of rows
    /// @param  extras      records in strictly increasing row order. A row with from ≠ 0 and to = 0: row (2),
    ///                     address (20), token (4), amount (16); any other row: row (2), owner (32)
    struct Batch {
        uint16 circuitId;
        uint64 timestamp;
        uint256 newRoot;
        uint256 feeLeaves;
        uint256 commitment;
        address beneficiary;
        L1Row[] l1Rows;
        bytes rows;
        bytes extras;
    }

    /// @notice A committed batch as proveBatches needs it; the contract stores keccak256(abi.encode(storedBatch)).
    ///         All of it follows from the input of the commit and its block time.
    /// @param  number      batch number
    /// @param  oldRoot     state root before the batch
    /// @param  z           the challenge, public input 1
    /// @param  y           Σ d[i]·z^i mod r, public input 2 (C, the commitment, is public input 0)
    /// @param  queueHead   number of requests consumed up to and including this batch
    /// @param  payoutsHash keccak256 of the concatenated chunk hashes of what the batch pays, 0 if it pays nothing
    /// @param  timestamp   the batch's own timestamp
    /// @param  committedAt block time of the commit
    struct StoredBatch {
        uint64 number;
        uint16 circuitId;
        uint256 oldRoot;
        uint256 newRoot;
        uint256 commitment;
        uint256 z;
        uint256 y;
        uint64 queueHead;
        bytes32 payoutsHash;
        uint64 timestamp;
        uint64 committedAt;
        address beneficiary;
    }

    /// @notice A Groth16 proof, all coordinates below q. `b` is in the order of the precompiles, imaginary part first:
    ///         [x.c1, x.c0, y.c1, y.c0].
    struct Proof {
        uint256[2] a;
        uint256[4] b;
        uint256[2] c;
    }

    /// @notice The opening of a leaf of the last proven state.
    /// @param  siblings from the leaf up: the three other children of each of the 12 ancestors, in ascending order
    struct Leaf {
        uint24 index;
        uint32 token;
        uint40 nonce;
        uint128 balance;
        address l1Address;
        uint256 ax;
        uint256 ay;
        uint256[3][12] siblings;
    }

    /// @notice Where the rollup stands. All counters; the last committed batch's number is `committedBatches`.
    /// @param  provenBatches      number of the last proven batch
    /// @param  committedBatches   number of the last committed batch, equal to provenBatches if none waits for a proof
    /// @param  provenQueueHead    the first request that no proven batch consumed
    /// @param  committedQueueHead the first request that no committed batch consumed
    /// @param  queueTail          number of requests made
    /// @param  provenTimestamp    timestamp of the last proven batch
    /// @param  committedTimestamp timestamp of the last committed batch
    /// @param  provenRoot         root after the last proven batch
    /// @param  committedRoot      root after the last committed batch
    /// @param  frozen             enterEscape has happened
    struct Status {
        uint64 provenBatches;
        uint64 committedBatches;
        uint64 provenQueueHead;
        uint64 committedQueueHead;
        uint64 queueTail;
        uint64 provenTimestamp;
        uint64 committedTimestamp;
        uint256 provenRoot;
        uint256 committedRoot;
        bool frozen;
    }

    // ------------------------------------------------------------------------------------------------ events

    /// @notice An ERC-20 got its number.
    event TokenRegistered(uint32 indexed number, address indexed token);
    /// @notice Request `id` joined the queue.
    event RequestQueued(uint64 indexed id, address indexed sender, Request request);
    /// @notice A batch was committed; its data is the input of this transaction (commitBatch or commitAndProve, sent by
    ///         an account without code directly to this contract).
    event BatchCommitted(uint64 indexed number, uint16 circuitId, uint256 newRoot, bytes32 dataHash);
    /// @notice A batch was proven: its root is the state, its payouts can be paid.
    event BatchProven(uint64 indexed number, uint256 newRoot, uint64 queueHead, bytes32 payoutsHash);
    /// @notice The committed batches first … last are void.
    event BatchesDropped(uint64 first, uint64 last);
    /// @notice Payout `index` (chunk·32 + place in the chunk) of a batch was paid, or became claimable if !paid.
    event Payout(
        uint64 indexed batch, uint256 index, address indexed receiver, uint32 token, uint128 amount, bool paid
    );
    /// @notice `account` was credited with something that claim pays: half of the request fees, or a failed payment.
    event Claimable(uint32 indexed token, address indexed account, uint256 amount);
    /// @notice `amount` of what `account` could claim was paid to `receiver`.
    event Claimed(uint32 indexed token, address indexed account, address receiver, uint256 amount);
    /// @notice The rollup froze for good because request `id` was not proven in time.
    event EscapeEntered(uint64 indexed id, uint256 root);
    /// @notice Leaf `index` of the last proven state was paid out (or became claimable).
    event EscapeExited(uint24 indexed index, address indexed account, uint32 token, uint128 amount);
    /// @notice The unproven deposit `id` went back to who made it (or became claimable).
    event DepositCancelled(uint64 indexed id, address indexed sender, uint32 token, uint128 amount);

    // ------------------------------------------------------------------------------------------------ errors

    // any function
    error Reentered();
    error IsFrozen();
    error NotFrozen();

    // deployment
    error CircuitCount(uint256 count);
    error CircuitIdTaken(uint16 id);
    error CircuitSize(uint16 id, uint16 l1Rows, uint16 txRows);
    error KeyInputs(uint16 id, uint256 expected, uint256 got);
    error KeyInsecure(uint16 id);
    error KeyPoint(uint16 id);
    error OperatorIsZero();
    error RequestSpacing(uint32 max, uint32 got);

    // tokens and requests
    error TokenHasNoCode(address token);
    error TokenAlreadyRegistered(address token, uint32 number);
    error TokenNotRegistered(uint32 token);
    error TooManyTokens();
    error TokenCallFailed(address token);
    error OwnerOutOfRange(uint256 owner);
    error IndexOutOfRange(uint256 index);
    error KeyOutOfRange(uint256 ax, uint256 ay);
    error AmountIsZero();
    error OutstandingTooLarge(uint32 token, uint256 max, uint256 got);
    error ValueTooLow(uint256 expected, uint256 got);
    error RefundFailed(address sender);

    // batches
    error NotOperator(address sender);
    error NotPlainAccount(address sender);
    error BatchNumberMismatch(uint64 expected, uint64 got);
    error InOpenPhase();
    error UnprovenBatches(uint64 provenBatches, uint64 committedBatches);
    error TooManyUnprovenBatches(uint64 max);
    error UnknownCircuit(uint16 id);
    error TimestampOutOfRange(uint64 min, uint64 max, uint64 got);
    error WordOutOfRange(uint256 word);
    error FeeLeavesOutOfRange(uint256 feeLeaves);
    error TooManyL1Rows(uint256 max, uint256 got);
    error RequestMismatch(uint64 id);
    error ResultOutOfRange(uint64 id, uint256 result);
    error RequestLeftOut(uint64 id);
    error RowsLength(uint256 max, uint256 got);
    error ExtraTruncated(uint256 offset);
    error ExtraOutOfOrder(uint256 row);
    error ExtraWithoutRow(uint256 rows, uint256 row);
    error NoBatches();
    error ProofCount(uint256 batches, uint256 proofs);
    error StoredBatchMismatch(uint64 number);
    error RootMismatch(uint64 number, uint256 expected, uint256 got);
    error CircuitsMixed(uint16 first, uint16 got);
    error CoordinateOutOfRange(uint256 coordinate);
    error ProofIsFalse();
    error NothingToRevert();
    error ProofNotOverdue(uint256 due);

    // payments
    error PayoutsMismatch(uint64 batch);
    error ChunkMismatch(uint64 batch, uint256 chunk);
    error NothingToPay(uint64 batch, uint256 chunk, uint256 mask);
    error GasTooLow(uint256 expected, uint256 got);
    error NothingToClaim(uint32 token, address account);
    error ClaimTooLarge(uint256 max, uint256 got);
    error ReceiverIsZero();
    error PaymentFailed(uint32 token, address receiver);

    // escape
    error NoOpenRequest();
    error DeadlineNotPassed(uint64 deadline);
    error LeafAlreadyExited(uint24 index);
    error LeafMismatch(uint256 expected, uint256 got);
    error RequestAlreadyProven(uint64 id);
    error NotADeposit(uint64 id);

    // ------------------------------------------------------------------------------------------------ in

    /// @notice Gives an ERC-20 the next number. Anyone, once per token.
    function registerToken(address token) external returns (uint32 number);

    /// @notice Pays into the rollup: queues a Deposit of what really arrived for `owner`.
    ///         Send requestFee() in ETH, plus `amount` if the token is ETH; what is too much comes back.
    /// @param  amount how much to take; an ERC-20 must have approved it
    /// @param  owner  the payment address's word, 0 < owner < r
    function deposit(uint32 token, uint128 amount, uint256 owner) external payable returns (uint64 id);

    /// @notice Queues a ForcedExit of leaf `index` to msg.sender: the whole balance leaves if the leaf has this token and
    ///         owner Poseidon(msg.sender, ax, ay). Send requestFee() in ETH; what is too much comes back.
    function requestExit(uint24 index, uint32 token, uint256 ax, uint256 ay) external payable returns (uint64 id);

    // ------------------------------------------------------------------------------------------------ batches

    /// @notice Commits the next batch on top of the last committed one. Only the operator, from an account without
    ///         code, directly; never in the open phase.
    /// @param  number the next batch's number: protects from an L1 reorg
    function commitBatch(uint64 number, Batch calldata batch) external;

    /// @notice Proves committed batches, consecutive from the first unproven one, all of one circuit. Anyone. Reverts
    ///         if any proof is false.
    function proveBatches(StoredBatch[] calldata batches, Proof[] calldata proofs) external;

    /// @notice Commits and proves one batch on top of the last proven one. Only the operator, and no batch may be
    ///         waiting for its proof; in the open phase anyone, it drops the batches that wait, and must consume
    ///         min(requests made no later than its timestamp, its L1 rows).
    function commitAndProve(uint64 number, Batch calldata batch, Proof calldata proof) external;

    /// @notice Drops all unproven batches when the proof of the first is overdue. Anyone.
    /// @param  first the first unproven batch
    function revertBatches(StoredBatch calldata first) external;

    // ------------------------------------------------------------------------------------------------ out

    /// @notice Pays payouts of a proven batch: its L1 rows that pay (forced exits of an amount > 0 to their sender, refused
    ///         deposits to their depositor, in queue order), then its withdrawals in row order. A payout is the 40 bytes
    ///         receiver (20), token (4), amount (16); up to 32 of them are a chunk, and all chunks but the last are full.
    ///         Anyone; each is paid once; one that fails becomes claimable by its receiver.
    /// @param  chunkHashes keccak256 of each chunk's concatenated payouts
    /// @param  chunk       which chunk to pay from
    /// @param  records     the chunk's payouts, concatenated
    /// @param  mask        bit i = pay the chunk's payout i; those already paid are skipped
    function payWithdrawals(
        uint64 batch,
        bytes32[] calldata chunkHashes,
        uint256 chunk,
        bytes calldata records,
        uint256 mask
    ) external;

    /// @notice Pays all that `account` can claim of `token` to `account`. Anyone.
    function claim(uint32 token, address account) external returns (uint256 amount);

    /// @notice Pays `amount` of what msg.sender can claim of `token` to `receiver`.
    function claimTo(uint32 token, address receiver, uint256 amount) external;

    // ------------------------------------------------------------------------------------------------ escape

    /// @notice Freezes the rollup for good: the oldest unproven request is past its deadline. Drops unproven batches.
    ///         Anyone.
    /// @param  oldest request number provenQueueHead
    function enterEscape(Request calldata oldest) external;

    /// @notice Pays a leaf of the last proven state to the L1 address in its owner, once per index. Anyone; frozen only.
    function escapeExit(Leaf calldata leaf) external;

    /// @notice Gives an unproven deposit back to who made it. Anyone; frozen only.
    function cancelDeposit(uint64 id, Request calldata request) external;

    // ------------------------------------------------------------------------------------------------ views

    /// @notice Where the rollup stands.
    function status() external view returns (Status memory);
    /// @notice What a request costs now, in wei: base·2^(open requests / 1024), at most base·2^10. Half goes to the
    ///         beneficiary of the batch that consumes it, half is burnt (stays here for ever).
    function requestFee() external view returns (uint256);
    /// @notice Whether the oldest unproven request is older than OPEN_PHASE_AFTER.
    function isOpenPhase() external view returns (bool);
    /// @notice keccak256(abi.encode(request)), 0 if there is no request `id` or it was cancelled.
    function requestHash(uint64 id) external view returns (bytes32);
    /// @notice Block time of request `id`, 0 if there is none.
    function requestCreated(uint64 id) external view returns (uint64);
    /// @notice keccak256(abi.encode(storedBatch)) of a batch that waits for its proof, else 0.
    function batchHash(uint64 number) external view returns (bytes32);
    /// @notice Payouts hash of a proven batch, 0 if it pays nothing.
    function payoutsHash(uint64 number) external view returns (bytes32);
    /// @notice Bit i = payout i of that chunk was paid (or made claimable).
    function paidMask(uint64 batch, uint256 chunk) external view returns (uint32);
    /// @notice What claim(token, account) would pay.
    function claimable(uint32 token, address account) external view returns (uint256);
    /// @notice Owed inside the rollup: balances, queued deposits, unpaid payouts. At most MAX_OUTSTANDING.
    function outstanding(uint32 token) external view returns (uint256);
    /// @notice Request fees not yet credited to a beneficiary.
    function feePot() external view returns (uint256);
    /// @notice Number of registered ERC-20s: the highest token number.
    function tokenCount() external view returns (uint32);
    /// @notice Number of an ERC-20, 0 if it is not registered.
    function tokenNumber(address token) external view returns (uint32);
    /// @notice Address of an ERC-20, 0 if the number is not taken (and for ETH).
    function tokenAddress(uint32 number) external view returns (address);
    /// @notice Whether escapeExit has paid that leaf.
    function hasExited(uint24 index) external view returns (bool);
    /// @notice Capacities of a circuit, and the contract whose code is 0x00 and the verifying key with −alpha, −gamma
    ///         and −delta; all 0 if the id is unknown.
    function circuit(uint16 id) external view returns (uint16 l1Rows, uint16 txRows, address key);
    /// @notice keccak256(abi.encode("millrace-rollup-1", chain id, this contract)) >> 8.
    function domain() external view returns (uint256);
    /// @notice Who may commit outside the open phase.
    function operator() external view returns (address);
    /// @notice Hash of the setup ceremony's transcript.
    function ceremony() external view returns (bytes32);
    /// @notice Base fee of a request, in wei.
    function requestFeeBase() external view returns (uint128);
    /// @notice Least number of seconds between the deadlines of two requests.
    function requestSpacing() external view returns (uint32);
}
