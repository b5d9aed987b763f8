//! Finite groups: their elements, products and generating sets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A group by its usual name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GroupName {
    /// Parity.
    Z2,
    /// Addition modulo `modulus`.
    Zm,
    /// All 6 permutations of 3 points.
    S3,
    /// All 24 permutations of 4 points.
    S4,
    /// The 12 even permutations of 4 points.
    A4,
    /// The 60 even permutations of 5 points: the smallest group that is not solvable.
    A5,
    /// All 120 permutations of 5 points.
    S5,
}

/// Elements are numbered; number 0 is the identity.
#[derive(Debug)]
pub(super) enum Group {
    /// The numbers below `order`, added modulo `order`.
    Cyclic { order: u32 },
    /// Permutations in lexicographic order, with `products[a * order + b]`.
    Permutations { elements: Vec<Vec<u8>>, products: Vec<u32> },
}

impl Group {
    pub(super) fn new(name: GroupName, modulus: u32) -> Self {
        match name {
            GroupName::Z2 => Self::Cyclic { order: 2 },
            GroupName::Zm => Self::Cyclic { order: modulus },
            GroupName::S3 => Self::of_permutations(permutations(3)),
            GroupName::S4 => Self::of_permutations(permutations(4)),
            GroupName::S5 => Self::of_permutations(permutations(5)),
            GroupName::A4 => Self::of_permutations(even(permutations(4))),
            GroupName::A5 => Self::of_permutations(even(permutations(5))),
        }
    }

    fn of_permutations(elements: Vec<Vec<u8>>) -> Self {
        let mut products = Vec::with_capacity(elements.len() * elements.len());
        for a in &elements {
            for b in &elements {
                // (a * b)(i) = a(b(i)); the convention of Merrill, Petty, Sabharwal 2024, arXiv
                // 2404.08819. The position is found: a group is closed.
                let product: Vec<u8> = b.iter().map(|&at| a[usize::from(at)]).collect();
                products.push(elements.partition_point(|element| *element < product) as u32);
            }
        }
        Self::Permutations { elements, products }
    }

    pub(super) fn order(&self) -> u32 {
        match self {
            Self::Cyclic { order } => *order,
            Self::Permutations { elements, .. } => elements.len() as u32,
        }
    }

    pub(super) fn multiply(&self, a: u32, b: u32) -> u32 {
        match self {
            Self::Cyclic { order } => (a + b) % order,
            Self::Permutations { elements, products } => {
                products[a as usize * elements.len() + b as usize]
            }
        }
    }

    /// A number, or where each point goes: "120" takes 0 to 1, 1 to 2 and 2 to 0.
    pub(super) fn name(&self, element: u32) -> String {
        match self {
            Self::Cyclic { .. } => element.to_string(),
            Self::Permutations { elements, .. } => {
                elements[element as usize].iter().map(|point| char::from(b'0' + point)).collect()
            }
        }
    }

    /// `count` elements, no more than there are, that generate the group: the first pair that does (for a count of 1, the
    /// first element), filled up with the first of the others. None where no such set exists.
    pub(super) fn generating_set(&self, count: usize) -> Option<Vec<u32>> {
        let all = 0..self.order();
        let seed = match count {
            0 => None,
            1 => all.clone().map(|a| vec![a]).find(|set| self.is_generated_by(set)),
            _ => all
                .clone()
                .flat_map(|a| (a + 1..self.order()).map(move |b| vec![a, b]))
                .find(|set| self.is_generated_by(set)),
        }?;
        let others = all.filter(|element| !seed.contains(element));
        let mut set: Vec<u32> = seed.iter().copied().chain(others).take(count).collect();
        set.sort_unstable();
        Some(set)
    }

    fn is_generated_by(&self, set: &[u32]) -> bool {
        let mut reached = vec![false; self.order() as usize];
        let mut next = vec![0];
        while let Some(element) = next.pop() {
            if !std::mem::replace(&mut reached[element as usize], true) {
                next.extend(set.iter().map(|&generator| self.multiply(element, generator)));
            }
        }
        reached.into_iter().all(|is_reached| is_reached)
    }
}

/// All permutations of `points` points in lexicographic order.
fn permutations(points: u8) -> Vec<Vec<u8>> {
    (0..points).fold(vec![vec![]], |begun, _| {
        let longer = |begin: &Vec<u8>| {
            let free = (0..points).filter(|point| !begin.contains(point));
            free.map(|point| [begin.as_slice(), &[point]].concat()).collect::<Vec<_>>()
        };
        begun.iter().flat_map(longer).collect()
    })
}

fn even(mut permutations: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    permutations.retain(|permutation| {
        let falls = |(index, first): (usize, &u8)| {
            permutation[index..].iter().filter(|later| *later < first).count()
        };
        permutation.iter().enumerate().map(falls).sum::<usize>() % 2 == 0
    });
    permutations
}
