// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Test} from "./Test.sol";
import {Reference} from "./Reference.sol";
import {Groth16Vectors} from "../vectors/Groth16Vectors.sol";
import {TestToken} from "../mocks/Tokens.sol";
import {IRollup} from "../../src/interfaces/IRollup.sol";

/// @title A rollup to test, an operator who follows it, and words for what users do
abstract contract RollupTest is Test {
    uint256 internal constant R = Reference.R;
    uint16 internal constant SMALL = 1;
    uint16 internal constant LARGE = 2;
    uint128 internal constant FEE = 0.0001 ether;
    uint32 internal constant SPACING = 30;

    address internal constant OPERATOR = address(0x0bE7a704);
    address internal constant ALICE = address(0xA11CE);
    address internal constant BOB = address(0xB0B);
    address internal constant STRANGER = address(0x57A9E8);
    address internal constant BENEFICIARY = address(0xBE9E);

    IRollup internal rollup;
    TestToken internal token;

    IRollup.Request[] internal requests;
    uint256 internal salt;

    function setUp() public virtual {
        vm.warp(1_700_000_000);
        rollup = deploy(config());
        token = new TestToken();
        rollup.registerToken(address(token));
        address[5] memory users = [OPERATOR, ALICE, BOB, STRANGER, address(this)];
        for (uint256 i = 0; i < users.length; ++i) {
            vm.deal(users[i], 1_000_000 ether);
            token.mint(users[i], 1e30);
            vm.prank(users[i]);
            token.approve(address(rollup), type(uint256).max);
        }
    }

    /// @dev From the build's output: a test that held the rollup's code would compile it again.
    function deploy(IRollup.Config memory c) internal returns (IRollup) {
        return IRollup(create(creationCode(c)));
    }

    function creationCode(IRollup.Config memory c) internal view returns (bytes memory) {
        return bytes.concat(vm.getCode("Rollup.sol:Rollup"), abi.encode(c));
    }

    /// @dev Reverts as the constructor does.
    function create(bytes memory code) internal returns (address created) {
        assembly ("memory-safe") {
            created := create(0, add(code, 32), mload(code))
            if iszero(created) {
                let p := mload(0x40)
                returndatacopy(p, 0, returndatasize())
                revert(p, returndatasize())
            }
        }
    }

    function config() internal pure returns (IRollup.Config memory c) {
        c.operator = OPERATOR;
        c.ceremony = keccak256("transcript");
        c.requestFee = FEE;
        c.requestSpacing = SPACING;
        c.circuits = new IRollup.Circuit[](2);
        c.circuits[0] = IRollup.Circuit(SMALL, 4, 8, Groth16Vectors.trapdoorKey());
        c.circuits[1] = IRollup.Circuit(LARGE, 64, 2048, Groth16Vectors.trapdoorKey());
    }

    function sizes(uint16 circuitId) internal pure returns (Reference.Circuit memory) {
        return circuitId == SMALL ? Reference.Circuit(4, 8) : Reference.Circuit(64, 2048);
    }

    // ------------------------------------------------------------------------------------------------ requests

    function ownerOf(address account) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode("owner", account))) % R;
    }

    function deposit(address from, uint32 token_, uint128 amount) internal returns (uint64 id) {
        uint256 fee = rollup.requestFee();
        vm.prank(from);
        id = rollup.deposit{value: token_ == 0 ? fee + amount : fee}(token_, amount, ownerOf(from));
        _remember(IRollup.Request(1, 0, token_, amount, from, ownerOf(from), 0, 0, 0, 0));
    }

    function requestExit(address from, uint24 index, uint32 token_) internal returns (uint64 id) {
        uint256 fee = rollup.requestFee();
        vm.prank(from);
        id = rollup.requestExit{value: fee}(index, token_, 11, 22);
        _remember(IRollup.Request(2, index, token_, 0, from, 0, 11, 22, 0, 0));
    }

    function _remember(IRollup.Request memory request) internal {
        uint64 usual = uint64(now_()) + 7 days;
        uint64 earliest = requests.length == 0 ? 0 : requests[requests.length - 1].deadline + SPACING;
        request.created = uint64(now_());
        request.deadline = usual > earliest ? usual : earliest;
        requests.push(request);
    }

    // ------------------------------------------------------------------------------------------------ batches

    /// @dev An empty batch, ready to be committed.
    function draft() internal returns (IRollup.Batch memory batch) {
        batch.circuitId = SMALL;
        batch.timestamp = uint64(now_());
        batch.newRoot = uint256(keccak256(abi.encode("root", ++salt))) % R;
        batch.commitment = uint256(keccak256(abi.encode("commitment", salt))) % R;
        batch.beneficiary = BENEFICIARY;
    }

    /// @dev A batch that consumes the next `count` requests; deposits go to leaf `result`, exits pay it.
    function draftConsuming(uint64 head, uint256 count, uint128 result) internal returns (IRollup.Batch memory batch) {
        batch = draft();
        batch.l1Rows = new IRollup.L1Row[](count);
        for (uint256 i = 0; i < count; ++i) {
            batch.l1Rows[i] = IRollup.L1Row(requests[head + i], result);
        }
    }

    function row(uint24 from, uint24 to, uint40 amount, uint8 fee) internal pure returns (bytes memory) {
        return abi.encodePacked(from, to, amount, fee);
    }

    function withdrawal(uint16 index, address receiver, uint32 token_, uint128 amount)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodePacked(index, receiver, token_, amount);
    }

    /// @dev A batch with one withdrawal (and a noop row).
    function draftPaying(address receiver, uint32 token_, uint128 amount)
        internal
        returns (IRollup.Batch memory batch)
    {
        batch = draft();
        batch.rows = bytes.concat(row(7, 0, 0, 0), row(0, 0, 0, 0));
        batch.extras = withdrawal(0, receiver, token_, amount);
    }

    /// @dev What the contract must store when `batch` is committed next.
    function expected(IRollup.Batch memory batch) internal view returns (IRollup.StoredBatch memory) {
        IRollup.Status memory s = rollup.status();
        return statement(batch, s.committedBatches + 1, s.committedRoot, s.committedQueueHead);
    }

    function statement(IRollup.Batch memory batch, uint64 number, uint256 oldRoot, uint64 head)
        internal
        view
        returns (IRollup.StoredBatch memory)
    {
        return Reference.stored(batch, sizes(batch.circuitId), number, rollup.domain(), oldRoot, head);
    }

    function commit(IRollup.Batch memory batch) internal returns (IRollup.StoredBatch memory stored) {
        stored = expected(batch);
        vm.prank(OPERATOR, OPERATOR);
        rollup.commitBatch(stored.number, batch);
        vm.assertEq(rollup.batchHash(stored.number), keccak256(abi.encode(stored)));
    }

    function proofOf(IRollup.StoredBatch memory stored) internal view returns (IRollup.Proof memory) {
        return Reference.prove(stored.commitment, stored.z, stored.y, 0);
    }

    function prove(IRollup.StoredBatch memory stored) internal {
        (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs) = one(stored);
        rollup.proveBatches(batches, proofs);
    }

    function one(IRollup.StoredBatch memory stored)
        internal
        view
        returns (IRollup.StoredBatch[] memory batches, IRollup.Proof[] memory proofs)
    {
        batches = new IRollup.StoredBatch[](1);
        proofs = new IRollup.Proof[](1);
        batches[0] = stored;
        proofs[0] = proofOf(stored);
    }

    function commitAndProve(IRollup.Batch memory batch) internal returns (IRollup.StoredBatch memory stored) {
        stored = expected(batch);
        IRollup.Proof memory proof = proofOf(stored);
        vm.prank(OPERATOR, OPERATOR);
        rollup.commitAndProve(stored.number, batch, proof);
    }

    // ------------------------------------------------------------------------------------------------ payouts

    function payoutsOf(IRollup.Batch memory batch) internal pure returns (bytes memory) {
        return Reference.parse(batch, sizes(batch.circuitId), 0, 0, 0).payouts;
    }

    function pay(uint64 number, bytes memory payouts, uint256 chunk, uint256 mask) internal {
        bytes32[] memory hashes = Reference.chunkHashes(payouts);
        bytes memory records = Reference.chunk(payouts, chunk);
        rollup.payWithdrawals(number, hashes, chunk, records, mask);
    }

    receive() external payable virtual {}
}
