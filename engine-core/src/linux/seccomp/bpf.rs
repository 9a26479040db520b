//! Classic BPF for seccomp: instructions, and how decisions become a program.
//!
//! A program looks at the architecture, then searches the number in a binary tree of comparisons (about seven for the
//! default profile), then compares arguments where a rule has conditions. Since Linux 5.11 the kernel runs the filter once
//! for each number when it is installed and remembers which are always allowed, so the tree is what makes *installing*
//! cheap. Only instructions that this emulation in the kernel knows are used on the way to an unconditional return.
//! Invariant: all jumps lead forward and inside the program. See seccomp(2) and linux/filter.h.

use super::profile::{Condition, Operator};

/// `BPF_MAXINSNS`.
pub(super) const MAX_INSTRUCTIONS: usize = 4096;
/// `sizeof(struct sock_filter)`.
pub(super) const INSTRUCTION_SIZE: usize = 8;

// Codes (linux/bpf_common.h).
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JUMP_GREATER_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in struct seccomp_data. All our architectures are little-endian: the low word of an argument comes first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Stands for "this rule does not match" until the length of the rule is known. Real jumps inside a rule are far shorter.
const FAIL: u8 = u8::MAX;

/// One `struct sock_filter`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jt: u8,
    pub(super) jf: u8,
    pub(super) k: u32,
}

impl Instruction {
    const fn new(code: u16, jt: u8, jf: u8, k: u32) -> Self {
        Self { code, jt, jf, k }
    }

    pub(super) fn to_bytes(self) -> [u8; INSTRUCTION_SIZE] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }
}

/// What becomes of a call: the first rule whose conditions all hold, else `otherwise`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Decision {
    pub(super) rules: Vec<(Vec<Condition>, u32)>,
    pub(super) otherwise: u32,
}

/// The whole program: for each architecture its runs of decisions; `foreign` for calls of all others.
pub(super) fn program(sections: &[(u32, Vec<(u32, Decision)>)], foreign: u32) -> Vec<Instruction> {
    let mut program = vec![Instruction::new(LOAD, 0, 0, ARCH)];
    for (arch, runs) in sections {
        let mut body = vec![Instruction::new(LOAD, 0, 0, NUMBER)];
        body.extend(tree(runs));
        program.push(Instruction::new(JUMP_EQUAL, 1, 0, *arch));
        program.push(Instruction::new(JUMP, 0, 0, length(&body)));
        program.extend(body);
    }
    program.push(Instruction::new(RETURN, 0, 0, foreign));
    program
}

fn tree(runs: &[(u32, Decision)]) -> Vec<Instruction> {
    match runs {
        [] => Vec::new(),
        [(_, decision)] => leaf(decision),
        _ => {
            let (low, high) = runs.split_at(runs.len() / 2);
            let (left, right) = (tree(low), tree(high));
            let start = high[0].0;
            let mut node = match u8::try_from(left.len()) {
                Ok(skip) => vec![Instruction::new(JUMP_GREATER_EQUAL, skip, 0, start)],
                Err(_) => vec![
                    Instruction::new(JUMP_GREATER_EQUAL, 0, 1, start),
                    Instruction::new(JUMP, 0, 0, length(&left)),
                ],
            };
            node.extend(left);
            node.extend(right);
            node
        }
    }
}

fn leaf(decision: &Decision) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (conditions, action) in &decision.rules {
        let mut rule: Vec<Instruction> = conditions.iter().flat_map(compare).collect();
        rule.push(Instruction::new(RETURN, 0, 0, *action));
        let end = rule.len();
        for (at, instruction) in rule.iter_mut().enumerate() {
            // Six conditions of six instructions at most: it always fits.
            let fail = u8::try_from(end - at - 1).unwrap_or(FAIL);
            for target in [&mut instruction.jt, &mut instruction.jf] {
                if *target == FAIL {
                    *target = fail;
                }
            }
        }
        code.extend(rule);
    }
    code.push(Instruction::new(RETURN, 0, 0, decision.otherwise));
    code
}

/// Falls through where the condition holds. Arguments have 64 bits, the machine 32.
fn compare(condition: &Condition) -> Vec<Instruction> {
    let low = ARGUMENTS + 8 * u32::from(condition.index);
    let high = low + 4;
    let words = |value: u64| ((value >> 32) as u32, value as u32);
    let (value_high, value_low) = words(condition.value);
    let load = |offset| Instruction::new(LOAD, 0, 0, offset);
    let jump = Instruction::new;
    match condition.operator {
        Operator::Equal => vec![
            load(high),
            jump(JUMP_EQUAL, 0, FAIL, value_high),
            load(low),
            jump(JUMP_EQUAL, 0, FAIL, value_low),
        ],
        Operator::NotEqual => vec![
            load(high),
            jump(JUMP_EQUAL, 0, 2, value_high),
            load(low),
            jump(JUMP_EQUAL, FAIL, 0, value_low),
        ],
        Operator::Greater | Operator::GreaterOrEqual => {
            let code =
                if condition.operator == Operator::Greater { JUMP_GREATER } else { JUMP_GREATER_EQUAL };
            vec![
                load(high),
                jump(JUMP_GREATER, 3, 0, value_high),
                jump(JUMP_EQUAL, 0, FAIL, value_high),
                load(low),
                jump(code, 0, FAIL, value_low),
            ]
        }
        Operator::Less | Operator::LessOrEqual => {
            let code = if condition.operator == Operator::Less { JUMP_GREATER_EQUAL } else { JUMP_GREATER };
            vec![
                load(high),
                jump(JUMP_GREATER, FAIL, 0, value_high),
                jump(JUMP_EQUAL, 0, 2, value_high),
                load(low),
                jump(code, FAIL, 0, value_low),
            ]
        }
        Operator::Masked(mask) => {
            let (mask_high, mask_low) = words(mask);
            let mut code = Vec::new();
            for (offset, mask, value) in [(high, mask_high, value_high), (low, mask_low, value_low)] {
                if mask != 0 || value != 0 {
                    let and = Instruction::new(AND, 0, 0, mask);
                    code.extend([load(offset), and, jump(JUMP_EQUAL, 0, FAIL, value)]);
                }
            }
            code
        }
    }
}

fn length(code: &[Instruction]) -> u32 {
    // A program that is longer than the kernel takes is refused by the caller.
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}
