// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ChannelsTest} from "./utils/ChannelsTest.sol";
import {IChannels} from "../src/interfaces/IChannels.sol";
import {TestToken} from "./mocks/Tokens.sol";

/// @title What transactions cost, 21,000 and calldata included, written to snapshots/Channels.json
/// @notice Each call is a transaction of its own; payout accounts exist, and amounts, salts and counters have the bytes
///         that real ones have.
contract ChannelGasTest is ChannelsTest {
    string private constant GROUP = "Channels";
    bytes32 private constant PREIMAGE = keccak256("preimage");
    /// @dev A version as nodes number them, seconds * 2^20, with no byte that is zero: the dearest.
    uint64 private constant VERSION = 0x06b49d2f111111;

    function setUp() public override {
        super.setUp();
        vm.deal(COLD_A, 1 ether);
        vm.deal(COLD_B, 1 ether);
        IChannels.Params memory p = params;
        p.payoutA = address(bytes20(keccak256("payout A")));
        p.payoutB = address(bytes20(keccak256("payout B")));
        p.salt = uint64(uint256(keccak256("salt")));
        vm.deal(p.payoutA, 1 ether);
        vm.deal(p.payoutB, 1 ether);
        use(p);
    }

    /// @dev A token that the contract and both cold wallets hold.
    function _token() private {
        TestToken token = new TestToken();
        useToken(token);
        token.mint(address(channels), 1);
        token.mint(params.payoutA, 1);
        token.mint(params.payoutB, 1);
    }

    function _took(string memory name, uint256 goal) private returns (uint256 used) {
        used = vm.snapshotGasLastCall(GROUP, name);
        vm.assertLe(used, goal, name);
    }

    function test_gas_of_deposits() public {
        depositBy(alice, false, 1.23456789 ether);
        _took("deposit: open", 55_000);
        depositBy(bob, true, 1.23456789 ether);
        _took("deposit: further", 38_000);
        _token();
        depositBy(alice, false, 1.23456789 ether);
        _took("deposit: open, ERC-20", 73_000);
    }

    function test_gas_of_a_cooperative_close() public {
        fund(1 ether, 1 ether);
        cooperate(0.77777 ether, 2 ether - 0.77777 ether);
        _took("cooperate: close by a stranger", 64_000);
        IChannels.Params memory p = params;
        ++p.salt;
        use(p);
        fund(1 ether, 1 ether);
        _cooperateBySigner(0.77777 ether, 2 ether - 0.77777 ether);
        _took("cooperate: close", 60_000);
        fundToken();
        _cooperateBySigner(0.77777 ether, 2 ether - 0.77777 ether);
        _took("cooperate: close, ERC-20", 66_000);
    }

    /// @dev As a node does it: who sends needs no signature of its own.
    function _cooperateBySigner(uint112 payA, uint112 payB) private {
        uint64 validUntil = uint64(now_() + 1 hours);
        bytes memory sigB = sign(KEY_B, channels.coopDigest(id, 0, payA, payB, validUntil));
        vm.prank(alice);
        channels.cooperate(params, payA, payB, validUntil, "", sigB);
    }

    function fundToken() private {
        _token();
        fund(1 ether, 1 ether);
    }

    function test_gas_of_a_cooperative_payout() public {
        fund(1 ether, 1 ether);
        cooperate(0.77777 ether, 0);
        _took("cooperate: payout to one side, by a stranger", 56_000);
    }

    function _snapshot(uint64 versionA, uint64 versionB) private pure returns (IChannels.Halves memory) {
        return halvesOf(versionA, 12.345678901 ether, versionB, 12.345678905 ether);
    }

    function test_gas_of_closing_alone() public {
        fund(1 ether, 1 ether);
        submitBy(alice, _snapshot(VERSION, VERSION));
        _took("submit: close, no locks", 97_000);
        submitBy(STRANGER, _snapshot(VERSION + 1, VERSION + 2));
        _took("submit: challenge", 58_000);
        skip(1 days);
        settle();
        _took("settle: no locks", 60_000);
    }

    function test_gas_of_closing_before_the_first_message() public {
        fund(1 ether, 1 ether);
        vm.prank(alice);
        channels.submit(params, zero(), "", "", "", "", 0, "");
        _took("submit: close, nothing signed", 97_000);
        skip(1 days);
        settle();
        _took("settle: nothing signed", 60_000);
    }

    function test_gas_of_closing_a_token_alone() public {
        fundToken();
        submitBy(alice, _snapshot(VERSION, VERSION));
        skip(1 days);
        settle();
        _took("settle: no locks, ERC-20", 66_000);
    }

    function test_gas_of_a_disputed_path_with_one_lock() public {
        fund(1 ether, 1 ether);
        bytes memory list = lock(PREIMAGE, 0.1234567 ether, uint64(now_() + 1 hours));
        IChannels.Halves memory halves = _snapshot(VERSION, VERSION);
        halves.a = half(VERSION, 12.345678901 ether, list);
        submitBy(bob, halves, list, "");
        uint256 total = _took("submit: close, one lock", 120_000);
        halves.b.version = VERSION + 7;
        submitBy(STRANGER, halves, list, "");
        total += _took("submit: challenge with one lock standing", 58_000);
        reveal(PREIMAGE);
        total += _took("reveal: one", 50_000);
        skip(1 days);
        channels.settle(params, list, "");
        total += _took("settle: one lock won", 66_000);
        vm.snapshotValue(GROUP, "whole disputed path with one lock", total);
        vm.assertLe(total, 285_000, "disputed path");
        vm.assertEq(held(params.payoutB), 1 ether + (1 ether - 0.000000004 ether + 0.1234567 ether), "B won the lock");
    }

    function test_gas_of_settling_with_every_lock_allowed() public {
        fund(1 ether, 1 ether);
        bytes memory listA;
        bytes memory listB;
        for (uint256 i = 0; i < 200; ++i) {
            listA = bytes.concat(listA, lock(keccak256(abi.encode("a", i)), 0.001 ether, uint64(now_() + 1 hours)));
            listB = bytes.concat(listB, lock(keccak256(abi.encode("b", i)), 0.001 ether, uint64(now_() + 1 hours)));
        }
        bytes32[] memory preimages = new bytes32[](200);
        for (uint256 i = 0; i < 200; ++i) {
            preimages[i] = keccak256(abi.encode("a", i));
        }
        IChannels.Halves memory halves = IChannels.Halves(half(VERSION, 5, listA), half(VERSION, 6, listB));
        submitBy(alice, halves, listA, listB);
        _took("submit: close, 200 locks on both sides", 2 ** 24);
        channels.reveal(preimages);
        _took("reveal: 200", 2 ** 24);
        skip(1 days);
        channels.settle(params, listA, listB);
        // EIP-7825 caps a transaction at 2^24 gas, and a block has twice that at least.
        _took("settle: 200 locks on both sides, 200 of them won", 2 ** 24);
        vm.assertEq(held(params.payoutA), 1 ether + 0.8 ether + 1, "A lost its 200 locks");
    }

    function test_gas_of_claims() public {
        fund(1 ether, 1 ether);
        vm.etch(params.payoutA, hex"fe");
        cooperate(0.5 ether, 1.5 ether);
        vm.etch(params.payoutA, "");
        channels.claimFor(address(0), params.payoutA);
        _took("claimFor: ETH", 45_000);
    }

    function test_gas_of_deployment() public {
        bytes memory code = vm.getCode("Channels.sol:Channels");
        uint256 calldataGas = 0;
        for (uint256 i = 0; i < code.length; ++i) {
            calldataGas += code[i] == 0 ? 4 : 16;
        }
        address created;
        uint256 before = gasleft();
        assembly ("memory-safe") {
            created := create(0, add(code, 32), mload(code))
        }
        uint256 used = before - gasleft() + 21_000 + calldataGas;
        vm.snapshotValue(GROUP, "deployment", used);
        vm.snapshotValue(GROUP, "runtime bytes", created.code.length);
        vm.assertLe(used, 2_800_000, "deployment");
    }
}
