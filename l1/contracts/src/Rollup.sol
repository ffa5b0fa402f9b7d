// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRollup} from "./interfaces/IRollup.sol";
import {BatchData} from "./libraries/BatchData.sol";
import {Groth16} from "./libraries/Groth16.sol";
import {Payments} from "./libraries/Payments.sol";
import {Progress, unpackProgress} from "./libraries/Progress.sol";
import {Queue} from "./libraries/Queue.sol";
import {StateProof} from "./StateProof.sol";

// Every deadline is hours long: a block's time that is off by seconds changes nothing.
// slither-disable-start timestamp

/// @title  Millrace rollup
/// @notice See IRollup. Requests, batches and payments share one lock; every money function checks, then writes, then calls.
contract Rollup is IRollup {
    // ------------------------------------------------------------------------------------------------ constants

    /// @notice Leaves of the state tree: 4^12.
    uint256 public constant LEAVES = 1 << 24;
    /// @notice Root of the empty tree: Z_0 = 0, Z_{k+1} = Poseidon(Z_k, Z_k, Z_k, Z_k), Z_12.
    uint256 public constant GENESIS_ROOT = 5502479177772891194542009540012941542204094004749813714118505924674776464255;
    /// @notice A request not proven this long after it was made lets anyone freeze the rollup.
    uint256 public constant REQUEST_WINDOW = 7 days;
    /// @notice A batch not proven this long after its commit can be dropped by anyone.
    uint256 public constant PROOF_WINDOW = 6 hours;
    /// @notice An unproven request older than this opens commitAndProve to all.
    uint256 public constant OPEN_PHASE_AFTER = 24 hours;
    /// @notice How far a batch's timestamp may lie behind the block's.
    uint256 public constant MAX_TIMESTAMP_LAG = 2 hours;
    /// @notice Batches that can wait for their proofs at a time.
    uint64 public constant MAX_UNPROVEN_BATCHES = 1024;
    /// @notice Cap of what is owed of one token: below 2^128, so that no balance overflows in a circuit.
    uint256 public constant MAX_OUTSTANDING = 1 << 127;
    /// @notice Cap of Config.requestSpacing.
    uint32 public constant MAX_REQUEST_SPACING = 10 minutes;
    /// @notice What one payment may burn.
    uint256 public constant PAYMENT_GAS = 200_000;

    uint8 private constant DEPOSIT = 1;
    uint8 private constant FORCED_EXIT = 2;
    uint256 private constant R = Groth16.R;
    uint256 private constant MAX_CIRCUITS = 4;
    uint256 private constant MAX_FEE_LEAVES_WORD = 1 << 240;
    /// @dev A payment's share of the gas left is 63/64; opening an account, noting a failure and its events cost the rest.
    uint256 private constant GAS_TO_PAY = PAYMENT_GAS * 64 / 63 + 90_000;

    // ------------------------------------------------------------------------------------------------ storage

    /// @inheritdoc IRollup
    address public immutable operator;
    /// @inheritdoc IRollup
    bytes32 public immutable ceremony;
    /// @inheritdoc IRollup
    uint128 public immutable requestFeeBase;
    /// @inheritdoc IRollup
    uint32 public immutable requestSpacing;

    StateProof private immutable STATE_PROOF;
    uint256 private immutable DEPLOYED_AT;
    // id | l1Rows << 16 | txRows << 32 | key << 48, 0 = none
    uint256 private immutable CIRCUIT_0;
    uint256 private immutable CIRCUIT_1;
    uint256 private immutable CIRCUIT_2;
    uint256 private immutable CIRCUIT_3;

    bool private transient _entered;

    uint256 private _progress;
    uint256 private _provenRoot;
    /// @dev Only meaningful while a batch waits for its proof.
    uint256 private _committedRoot;
    Queue.State private _queue;

    /// @dev Hashes of the batches that wait, at number mod MAX_UNPROVEN_BATCHES: used slots are cheap to write.
    mapping(uint256 place => bytes32) private _batches;
    mapping(uint256 id => bytes32) private _requests;
    /// @dev Eight requests' times a word, in seconds since the deployment plus 1: 136 years.
    mapping(uint256 word => uint256) private _created;
    mapping(uint256 word => uint256) private _exited;
    mapping(uint256 batch => mapping(uint256 word => uint256)) private _paid;
    /// @inheritdoc IRollup
    mapping(uint64 number => bytes32) public payoutsHash;
    /// @inheritdoc IRollup
    mapping(uint32 token => mapping(address account => uint256)) public claimable;
    /// @inheritdoc IRollup
    mapping(uint32 token => uint256) public outstanding;
    /// @inheritdoc IRollup
    mapping(address token => uint32) public tokenNumber;
    /// @inheritdoc IRollup
    mapping(uint32 number => address) public tokenAddress;
    /// @inheritdoc IRollup
    uint32 public tokenCount;

    // ------------------------------------------------------------------------------------------------ deployment

    constructor(Config memory config) {
        if (config.operator == address(0)) revert OperatorIsZero();
        if (config.requestSpacing > MAX_REQUEST_SPACING) {
            revert RequestSpacing(MAX_REQUEST_SPACING, config.requestSpacing);
        }
        operator = config.operator;
        ceremony = config.ceremony;
        requestFeeBase = config.requestFee;
        requestSpacing = config.requestSpacing;
        STATE_PROOF = new StateProof();
        DEPLOYED_AT = block.timestamp;
        uint256[MAX_CIRCUITS] memory circuits = _storeCircuits(config.circuits);
        CIRCUIT_0 = circuits[0];
        CIRCUIT_1 = circuits[1];
        CIRCUIT_2 = circuits[2];
        CIRCUIT_3 = circuits[3];
        _provenRoot = GENESIS_ROOT;
    }

    function _storeCircuits(Circuit[] memory circuits) private returns (uint256[MAX_CIRCUITS] memory stored) {
        if (circuits.length == 0 || circuits.length > MAX_CIRCUITS) revert CircuitCount(circuits.length);
        for (uint256 i = 0; i < circuits.length; ++i) {
            Circuit memory c = circuits[i];
            if (c.id == 0 || c.l1Rows == 0 || c.txRows == 0 || c.txRows % 2 != 0) {
                revert CircuitSize(c.id, c.l1Rows, c.txRows);
            }
            for (uint256 j = 0; j < i; ++j) {
                if (circuits[j].id == c.id) revert CircuitIdTaken(c.id);
            }
            uint256 key = uint160(Groth16.store(c.id, c.key));
            stored[i] = c.id | (uint256(c.l1Rows) << 16) | (uint256(c.txRows) << 32) | (key << 48);
        }
    }

    // ------------------------------------------------------------------------------------------------ guards

    /// @dev One lock over everything that changes state.
    modifier locked() {
        _enter();
        _;
        _entered = false;
    }

    function _enter() private {
        if (_entered) revert Reentered();
        _entered = true;
    }

    function _live() private view returns (Progress memory p) {
        p = unpackProgress(_progress);
        if (p.frozen) revert IsFrozen();
    }

    function _requireFrozen() private view returns (Progress memory p) {
        p = unpackProgress(_progress);
        if (!p.frozen) revert NotFrozen();
    }

    /// @dev Followers read a batch from the transaction's own input, so nothing may stand between.
    function _requirePlainAccount() private view {
        // slither-disable-next-line tx-origin
        if (msg.sender != tx.origin || msg.sender.code.length != 0) revert NotPlainAccount(msg.sender);
    }

    // ------------------------------------------------------------------------------------------------ in

    /// @inheritdoc IRollup
    function registerToken(address token) external locked returns (uint32 number) {
        _live();
        if (token.code.length == 0) revert TokenHasNoCode(token);
        if (tokenNumber[token] != 0) revert TokenAlreadyRegistered(token, tokenNumber[token]);
        if (tokenCount == type(uint32).max) revert TooManyTokens();
        number = ++tokenCount;
        tokenNumber[token] = number;
        tokenAddress[number] = token;
        emit TokenRegistered(number, token);
    }

    /// @inheritdoc IRollup
    function deposit(uint32 token, uint128 amount, uint256 owner) external payable locked returns (uint64 id) {
        Progress memory p = _live();
        if (owner == 0 || owner >= R) revert OwnerOutOfRange(owner);
        Queue.State memory queue = _queue;
        uint256 fee = _fee(queue, p);
        uint256 arrived = _take(token, amount, fee);
        if (arrived == 0) revert AmountIsZero();
        uint256 total = outstanding[token] + arrived;
        if (total > MAX_OUTSTANDING) revert OutstandingTooLarge(token, MAX_OUTSTANDING, total);
        outstanding[token] = total;
        // `arrived` is at most MAX_OUTSTANDING.
        id = _enqueue(queue, Request(DEPOSIT, 0, token, uint128(arrived), msg.sender, owner, 0, 0, 0, 0), fee);
        _refund(token == 0 ? fee + amount : fee);
    }

    /// @dev ETH comes with the call; of an ERC-20 counts what really arrives.
    function _take(uint32 token, uint128 amount, uint256 fee) private returns (uint256) {
        _requireValue(token == 0 ? fee + amount : fee);
        return token == 0 ? amount : Payments.pull(_token(token), msg.sender, amount);
    }

    /// @inheritdoc IRollup
    function requestExit(uint24 index, uint32 token, uint256 ax, uint256 ay)
        external
        payable
        locked
        returns (uint64 id)
    {
        Progress memory p = _live();
        if (index == 0) revert IndexOutOfRange(index); // uint24 caps it at 4^12 − 1
        if (token != 0) _token(token);
        if (ax >= R || ay >= R) revert KeyOutOfRange(ax, ay);
        Queue.State memory queue = _queue;
        uint256 fee = _fee(queue, p);
        _requireValue(fee);
        id = _enqueue(queue, Request(FORCED_EXIT, index, token, 0, msg.sender, 0, ax, ay, 0, 0), fee);
        _refund(fee);
    }

    /// @dev Gives `request` its times and puts it last. The rest of the fee stays here for ever: it is burnt.
    function _enqueue(Queue.State memory queue, Request memory request, uint256 fee) private returns (uint64 id) {
        id = queue.tail;
        uint256 deadline = Queue.deadline(queue.lastDeadline, REQUEST_WINDOW, requestSpacing);
        request.created = uint64(block.timestamp);
        request.deadline = uint64(deadline);
        _requests[id] = keccak256(abi.encode(request));
        _created[id >> 3] |= (block.timestamp - DEPLOYED_AT + 1) << (32 * (id & 7));
        // The pot holds at most half of the ETH there is.
        _queue = Queue.State(uint40(id + 1), uint40(deadline), queue.feePot + uint128(fee / 2));
        emit RequestQueued(id, msg.sender, request);
    }

    function _fee(Queue.State memory queue, Progress memory p) private view returns (uint256) {
        return Queue.fee(requestFeeBase, queue.tail - p.provenQueueHead);
    }

    function _requireValue(uint256 due) private view {
        if (msg.value < due) revert ValueTooLow(due, msg.value);
    }

    /// @dev The fee may have moved since the sender looked.
    function _refund(uint256 due) private {
        if (msg.value == due) return;
        if (!Payments.send(address(0), msg.sender, msg.value - due, gasleft())) revert RefundFailed(msg.sender);
    }

    /// @dev 0 for ETH; a number that no token has is never taken for it.
    function _tokenOrEther(uint32 number) private view returns (address) {
        return number == 0 ? address(0) : _token(number);
    }

    function _token(uint32 number) private view returns (address token) {
        token = tokenAddress[number];
        if (token == address(0)) revert TokenNotRegistered(number);
    }

    // ------------------------------------------------------------------------------------------------ commit

    /// @inheritdoc IRollup
    function commitBatch(uint64 number, Batch calldata batch) external locked {
        Progress memory p = _live();
        _requirePlainAccount();
        if (msg.sender != operator) revert NotOperator(msg.sender);
        if (_isOpenPhase(p)) revert InOpenPhase();
        if (number != p.committedBatches + 1) revert BatchNumberMismatch(uint64(p.committedBatches + 1), number);
        bool waiting = p.committedBatches != p.provenBatches;
        if (number - p.provenBatches > MAX_UNPROVEN_BATCHES) revert TooManyUnprovenBatches(MAX_UNPROVEN_BATCHES);
        (StoredBatch memory stored,) = _commit(number, batch, waiting ? _committedRoot : _provenRoot, p, false);
        _batches[number % MAX_UNPROVEN_BATCHES] = _hash(stored);
        _committedRoot = stored.newRoot;
        p.committedBatches = number;
        p.committedQueueHead = stored.queueHead;
        p.committedTimestamp = stored.timestamp;
        _progress = p.pack();
    }

    /// @inheritdoc IRollup
    function commitAndProve(uint64 number, Batch calldata batch, Proof calldata proof) external locked {
        Progress memory p = _live();
        _requirePlainAccount();
        bool open = _isOpenPhase(p);
        if (open) {
            _drop(p);
        } else {
            if (msg.sender != operator) revert NotOperator(msg.sender);
            if (p.committedBatches != p.provenBatches) {
                revert UnprovenBatches(uint64(p.provenBatches), uint64(p.committedBatches));
            }
        }
        if (number != p.provenBatches + 1) revert BatchNumberMismatch(uint64(p.provenBatches + 1), number);
        (StoredBatch memory stored, address key) = _commit(number, batch, _provenRoot, p, open);
        uint256[] memory inputs = new uint256[](Groth16.INPUTS);
        (inputs[0], inputs[1], inputs[2]) = (stored.commitment, stored.z, stored.y);
        Proof[] calldata proofs;
        assembly ("memory-safe") {
            // A list of one: a proof has a fixed size, so its words are the list's words.
            proofs.offset := proof
            proofs.length := 1
        }
        Groth16.verify(key, inputs, proofs, 0);
        _settle(p, stored);
        p.committedBatches = p.provenBatches;
        p.committedQueueHead = p.provenQueueHead;
        p.committedTimestamp = p.provenTimestamp;
        _provenRoot = stored.newRoot;
        _progress = p.pack();
    }

    /// @dev Checks a batch and computes its statement; `p` says on top of what.
    function _commit(uint64 number, Batch calldata batch, uint256 oldRoot, Progress memory p, bool mustConsume)
        private
        returns (StoredBatch memory stored, address key)
    {
        uint256 l1Rows;
        uint256 txRows;
        (l1Rows, txRows, key) = _circuit(batch.circuitId);
        if (key == address(0)) revert UnknownCircuit(batch.circuitId);
        _checkBatch(batch, p.committedTimestamp, l1Rows, txRows);
        bytes memory payouts = BatchData.emptyPayouts(batch.l1Rows.length, batch.extras.length);
        uint256[] memory words = _consume(batch, p.committedQueueHead, l1Rows, payouts, mustConsume);
        bytes32 dataHash = BatchData.hash(words, batch.rows, batch.extras);
        uint256[5] memory header = [
            batch.circuitId | (uint256(number) << 16) | (uint256(batch.timestamp) << 80),
            domain(),
            oldRoot,
            batch.newRoot,
            batch.feeLeaves
        ];
        uint256 z = uint256(keccak256(abi.encode(batch.commitment, dataHash, header, batch.beneficiary))) % R;
        uint256 extrasSum = BatchData.evaluateExtras(batch.rows, batch.extras, z, payouts);
        stored.number = number;
        stored.circuitId = batch.circuitId;
        stored.oldRoot = oldRoot;
        stored.newRoot = batch.newRoot;
        stored.commitment = batch.commitment;
        stored.z = z;
        stored.y = BatchData.evaluate(header, words, batch.rows, extrasSum, l1Rows, txRows, z);
        stored.queueHead = uint64(p.committedQueueHead + batch.l1Rows.length);
        stored.payoutsHash = BatchData.hashPayouts(payouts);
        stored.timestamp = batch.timestamp;
        stored.committedAt = uint64(block.timestamp);
        stored.beneficiary = batch.beneficiary;
        emit BatchCommitted(number, batch.circuitId, batch.newRoot, dataHash);
    }

    function _checkBatch(Batch calldata batch, uint256 lastTimestamp, uint256 l1Rows, uint256 txRows) private view {
        uint256 earliest = block.timestamp < MAX_TIMESTAMP_LAG ? 0 : block.timestamp - MAX_TIMESTAMP_LAG;
        if (earliest < lastTimestamp) earliest = lastTimestamp;
        if (batch.timestamp < earliest || batch.timestamp > block.timestamp) {
            revert TimestampOutOfRange(uint64(earliest), uint64(block.timestamp), batch.timestamp);
        }
        if (batch.newRoot >= R) revert WordOutOfRange(batch.newRoot);
        if (batch.commitment >= R) revert WordOutOfRange(batch.commitment);
        if (batch.feeLeaves >= MAX_FEE_LEAVES_WORD) revert FeeLeavesOutOfRange(batch.feeLeaves);
        if (batch.l1Rows.length > l1Rows) revert TooManyL1Rows(l1Rows, batch.l1Rows.length);
        uint256 maxLength = BatchData.ROW_BYTES * txRows;
        if (batch.rows.length > maxLength || batch.rows.length % (2 * BatchData.ROW_BYTES) != 0) {
            revert RowsLength(maxLength, batch.rows.length);
        }
    }

    /// @dev Takes the next requests from the queue: their words, and what they pay.
    function _consume(Batch calldata batch, uint256 head, uint256 capacity, bytes memory payouts, bool mustConsume)
        private
        view
        returns (uint256[] memory words)
    {
        uint256 count = batch.l1Rows.length;
        words = BatchData.l1Words(count);
        for (uint256 j = 0; j < count; ++j) {
            Request calldata request = batch.l1Rows[j].request;
            uint128 result = batch.l1Rows[j].result;
            if (_hash(request) != _requests[head + j]) revert RequestMismatch(uint64(head + j));
            if (request.kind == DEPOSIT && result >= LEAVES) revert ResultOutOfRange(uint64(head + j), result);
            BatchData.writeL1Row(words, j, request, result);
            BatchData.appendL1Payout(payouts, request, result);
        }
        if (mustConsume && count < capacity) {
            uint256 created = _createdAt(head + count);
            if (created != 0 && created <= batch.timestamp) revert RequestLeftOut(uint64(head + count));
        }
    }

    // ------------------------------------------------------------------------------------------------ prove

    /// @inheritdoc IRollup
    function proveBatches(StoredBatch[] calldata batches, Proof[] calldata proofs) external locked {
        Progress memory p = _live();
        uint256 count = batches.length;
        if (count == 0) revert NoBatches();
        if (count != proofs.length) revert ProofCount(count, proofs.length);
        uint256[] memory inputs = new uint256[](Groth16.INPUTS * count);
        bytes32[] memory hashes = new bytes32[](count);
        uint16 circuitId = batches[0].circuitId;
        uint256 root = _provenRoot;
        for (uint256 i = 0; i < count; ++i) {
            StoredBatch memory batch;
            (batch, hashes[i]) = _requireNext(p, batches[i]);
            if (batch.circuitId != circuitId) revert CircuitsMixed(circuitId, batch.circuitId);
            // A batch is committed on the root of the one before, and batches drop from the first unproven one on.
            // This stands guard should that ever fail.
            if (batch.oldRoot != root) revert RootMismatch(batch.number, root, batch.oldRoot);
            root = batch.newRoot;
            uint256 first = Groth16.INPUTS * i;
            (inputs[first], inputs[first + 1], inputs[first + 2]) = (batch.commitment, batch.z, batch.y);
            _settle(p, batch);
        }
        (,, address key) = _circuit(circuitId);
        // The batch hashes cover the statements. A single proof has the weight 1.
        bytes32 seed = count == 1 ? bytes32(0) : keccak256(abi.encode(hashes, proofs));
        Groth16.verify(key, inputs, proofs, seed);
        _provenRoot = root;
        _progress = p.pack();
    }

    /// @dev `given` must be the first unproven batch: what has the stored hash is clean.
    function _requireNext(Progress memory p, StoredBatch calldata given)
        private
        view
        returns (StoredBatch memory batch, bytes32 hash)
    {
        assembly ("memory-safe") {
            calldatacopy(batch, given, 384)
        }
        uint256 next = p.provenBatches + 1;
        if (batch.number != next) revert BatchNumberMismatch(uint64(next), batch.number);
        hash = _hash(batch);
        if (next > p.committedBatches || hash != _batches[next % MAX_UNPROVEN_BATCHES]) {
            revert StoredBatchMismatch(batch.number);
        }
    }

    /// @dev What a proof makes true, but for the root.
    function _settle(Progress memory p, StoredBatch memory batch) private {
        if (batch.payoutsHash != 0) payoutsHash[batch.number] = batch.payoutsHash;
        uint256 consumed = batch.queueHead - p.provenQueueHead;
        if (consumed != 0) _rewardBeneficiary(batch.beneficiary, consumed, p.provenQueueHead);
        p.provenBatches = batch.number;
        p.provenQueueHead = batch.queueHead;
        p.provenTimestamp = batch.timestamp;
        emit BatchProven(batch.number, batch.newRoot, batch.queueHead, batch.payoutsHash);
    }

    function _rewardBeneficiary(address beneficiary, uint256 consumed, uint256 head) private {
        Queue.State memory queue = _queue;
        uint256 share = Queue.share(queue.feePot, consumed, queue.tail - head);
        _queue.feePot = uint128(queue.feePot - share);
        _credit(0, beneficiary, share);
    }

    /// @inheritdoc IRollup
    function revertBatches(StoredBatch calldata first) external locked {
        Progress memory p = _live();
        if (p.committedBatches == p.provenBatches) revert NothingToRevert();
        _requireNext(p, first);
        uint256 due = first.committedAt + PROOF_WINDOW;
        if (block.timestamp <= due) revert ProofNotOverdue(due);
        _drop(p);
        _progress = p.pack();
    }

    function _drop(Progress memory p) private {
        if (p.committedBatches == p.provenBatches) return;
        emit BatchesDropped(uint64(p.provenBatches + 1), uint64(p.committedBatches));
        p.committedBatches = p.provenBatches;
        p.committedQueueHead = p.provenQueueHead;
        p.committedTimestamp = p.provenTimestamp;
    }

    // ------------------------------------------------------------------------------------------------ out

    /// @inheritdoc IRollup
    function payWithdrawals(
        uint64 batch,
        bytes32[] calldata chunkHashes,
        uint256 chunk,
        bytes calldata records,
        uint256 mask
    ) external locked {
        bytes32 expected = payoutsHash[batch];
        if (expected == 0 || keccak256(abi.encodePacked(chunkHashes)) != expected) revert PayoutsMismatch(batch);
        if (chunk >= chunkHashes.length || keccak256(records) != chunkHashes[chunk]) {
            revert ChunkMismatch(batch, chunk);
        }
        uint256 toPay = _markPaid(batch, chunk, records.length / BatchData.PAYOUT_BYTES, mask);
        for (uint256 i = 0; toPay != 0; ++i) {
            if (toPay & 1 != 0) _payRecord(batch, chunk * BatchData.CHUNK_PAYOUTS + i, records, i);
            toPay >>= 1;
        }
    }

    /// @dev Of `mask`, what there is and was not paid yet; marked as paid.
    function _markPaid(uint64 batch, uint256 chunk, uint256 count, uint256 mask) private returns (uint256 toPay) {
        uint256 shift = 32 * (chunk & 7);
        uint256 paid = _paid[batch][chunk >> 3];
        // A chunk has 1 to 32 records: the bits of this chunk only.
        toPay = mask & ((uint256(1) << count) - 1) & ~(paid >> shift);
        if (toPay == 0) revert NothingToPay(batch, chunk, mask);
        _paid[batch][chunk >> 3] = paid | (toPay << shift);
    }

    function _payRecord(uint64 batch, uint256 index, bytes calldata records, uint256 i) private {
        bytes calldata record = records[BatchData.PAYOUT_BYTES * i:BatchData.PAYOUT_BYTES * (i + 1)];
        address receiver = address(bytes20(record[0:20]));
        uint32 token = uint32(bytes4(record[20:24]));
        uint128 amount = uint128(bytes16(record[24:40]));
        bool paid = _payOrCredit(token, receiver, amount);
        emit Payout(batch, index, receiver, token, amount, paid);
    }

    /// @dev Pays what is owed inside the rollup. A caller cannot make a payment fail by sending little gas.
    function _payOrCredit(uint32 token, address receiver, uint128 amount) private returns (bool paid) {
        if (gasleft() < GAS_TO_PAY) revert GasTooLow(GAS_TO_PAY, gasleft());
        address erc20 = _tokenOrEther(token);
        outstanding[token] -= amount;
        paid = Payments.send(erc20, receiver, amount, PAYMENT_GAS);
        if (!paid) _credit(token, receiver, amount);
    }

    function _credit(uint32 token, address account, uint256 amount) private {
        claimable[token][account] += amount;
        emit Claimable(token, account, amount);
    }

    /// @inheritdoc IRollup
    function claim(uint32 token, address account) external locked returns (uint256 amount) {
        amount = claimable[token][account];
        _claim(token, account, account, amount);
    }

    /// @inheritdoc IRollup
    function claimTo(uint32 token, address receiver, uint256 amount) external locked {
        if (receiver == address(0)) revert ReceiverIsZero();
        _claim(token, msg.sender, receiver, amount);
    }

    function _claim(uint32 token, address account, address receiver, uint256 amount) private {
        uint256 owed = claimable[token][account];
        if (amount == 0) revert NothingToClaim(token, account);
        if (amount > owed) revert ClaimTooLarge(owed, amount);
        claimable[token][account] = owed - amount;
        emit Claimed(token, account, receiver, amount);
        if (!Payments.send(_tokenOrEther(token), receiver, amount, gasleft())) {
            revert PaymentFailed(token, receiver);
        }
    }

    // ------------------------------------------------------------------------------------------------ escape

    /// @inheritdoc IRollup
    function enterEscape(Request calldata oldest) external locked {
        Progress memory p = _live();
        uint64 id = uint64(p.provenQueueHead);
        if (_requests[id] == 0) revert NoOpenRequest();
        if (_hash(oldest) != _requests[id]) revert RequestMismatch(id);
        if (block.timestamp <= oldest.deadline) revert DeadlineNotPassed(oldest.deadline);
        _drop(p);
        p.frozen = true;
        _progress = p.pack();
        emit EscapeEntered(id, _provenRoot);
    }

    /// @inheritdoc IRollup
    function escapeExit(Leaf calldata leaf) external locked {
        _requireFrozen();
        if (leaf.balance == 0) revert AmountIsZero();
        if (hasExited(leaf.index)) revert LeafAlreadyExited(leaf.index);
        uint256 root = STATE_PROOF.rootOf(leaf);
        if (root != _provenRoot) revert LeafMismatch(_provenRoot, root);
        _exited[leaf.index >> 8] |= uint256(1) << (leaf.index & 0xff);
        emit EscapeExited(leaf.index, leaf.l1Address, leaf.token, leaf.balance);
        _payOrCredit(leaf.token, leaf.l1Address, leaf.balance);
    }

    /// @inheritdoc IRollup
    function cancelDeposit(uint64 id, Request calldata request) external locked {
        Progress memory p = _requireFrozen();
        if (id < p.provenQueueHead) revert RequestAlreadyProven(id);
        if (_hash(request) != _requests[id]) revert RequestMismatch(id);
        if (request.kind != DEPOSIT) revert NotADeposit(id);
        delete _requests[id];
        emit DepositCancelled(id, request.sender, request.token, request.amount);
        _payOrCredit(request.token, request.sender, request.amount);
    }

    // ------------------------------------------------------------------------------------------------ views

    /// @inheritdoc IRollup
    function status() external view returns (Status memory) {
        Progress memory p = unpackProgress(_progress);
        return Status({
            provenBatches: uint64(p.provenBatches),
            committedBatches: uint64(p.committedBatches),
            provenQueueHead: uint64(p.provenQueueHead),
            committedQueueHead: uint64(p.committedQueueHead),
            queueTail: _queue.tail,
            provenTimestamp: uint64(p.provenTimestamp),
            committedTimestamp: uint64(p.committedTimestamp),
            provenRoot: _provenRoot,
            committedRoot: p.committedBatches == p.provenBatches ? _provenRoot : _committedRoot,
            frozen: p.frozen
        });
    }

    /// @inheritdoc IRollup
    function requestFee() external view returns (uint256) {
        return _fee(_queue, unpackProgress(_progress));
    }

    /// @inheritdoc IRollup
    function isOpenPhase() external view returns (bool) {
        return _isOpenPhase(unpackProgress(_progress));
    }

    function _isOpenPhase(Progress memory p) private view returns (bool) {
        uint256 created = _createdAt(p.provenQueueHead);
        return created != 0 && block.timestamp > created + OPEN_PHASE_AFTER;
    }

    /// @inheritdoc IRollup
    function requestHash(uint64 id) external view returns (bytes32) {
        return _requests[id];
    }

    /// @inheritdoc IRollup
    function requestCreated(uint64 id) external view returns (uint64) {
        return uint64(_createdAt(id));
    }

    function _createdAt(uint256 id) private view returns (uint256) {
        uint256 age = uint32(_created[id >> 3] >> (32 * (id & 7)));
        // 0 is what no request has.
        // slither-disable-next-line incorrect-equality
        return age == 0 ? 0 : DEPLOYED_AT + age - 1;
    }

    /// @inheritdoc IRollup
    function batchHash(uint64 number) external view returns (bytes32) {
        Progress memory p = unpackProgress(_progress);
        if (number <= p.provenBatches || number > p.committedBatches) return 0;
        return _batches[number % MAX_UNPROVEN_BATCHES];
    }

    /// @inheritdoc IRollup
    function paidMask(uint64 batch, uint256 chunk) external view returns (uint32) {
        return uint32(_paid[batch][chunk >> 3] >> (32 * (chunk & 7)));
    }

    /// @inheritdoc IRollup
    function feePot() external view returns (uint256) {
        return _queue.feePot;
    }

    /// @inheritdoc IRollup
    function hasExited(uint24 index) public view returns (bool) {
        return (_exited[index >> 8] >> (index & 0xff)) & 1 != 0;
    }

    /// @inheritdoc IRollup
    function circuit(uint16 id) external view returns (uint16 l1Rows, uint16 txRows, address key) {
        (uint256 l1, uint256 tx_, address holder) = _circuit(id);
        return (uint16(l1), uint16(tx_), holder);
    }

    function _circuit(uint16 id) private view returns (uint256 l1Rows, uint256 txRows, address key) {
        uint256 found = 0;
        if (uint16(CIRCUIT_0) == id) found = CIRCUIT_0;
        else if (uint16(CIRCUIT_1) == id) found = CIRCUIT_1;
        else if (uint16(CIRCUIT_2) == id) found = CIRCUIT_2;
        else if (uint16(CIRCUIT_3) == id) found = CIRCUIT_3;
        return (uint16(found >> 16), uint16(found >> 32), address(uint160(found >> 48)));
    }

    /// @inheritdoc IRollup
    function domain() public view returns (uint256) {
        return uint256(keccak256(abi.encode("millrace-rollup-1", block.chainid, address(this)))) >> 8;
    }

    // ------------------------------------------------------------------------------------------------ hashes

    // Structs without dynamic members lie in calldata and memory as abi.encode writes them. Dirty upper bits in calldata
    // change the hash, so what has the stored hash is clean.

    function _hash(Request calldata request) private pure returns (bytes32 result) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            calldatacopy(p, request, 320)
            result := keccak256(p, 320)
        }
    }

    function _hash(StoredBatch memory batch) private pure returns (bytes32 result) {
        assembly ("memory-safe") {
            result := keccak256(batch, 384)
        }
    }
}
// slither-disable-end timestamp
