/* One application's journal in copies, and who may write it: the takeover protocol of jcpeer, for Spin.

   Nodes 0, 1 and 2 hold the first replica set, node 3 is the newcomer. Any of them may stand as candidate at any moment,
   since any suspicion may be wrong (so there is neither lease nor pre-vote here: they only keep candidates from standing).
   A node that does nothing further is one that crashed, stalls or was cut off; standing anew is also what a node does that
   was killed and restarted, for then it is neither candidate nor coordinator, and knows what is on its disk.

   A message and what its receiver does are one step; that the sender hears of it is part of that step, or never happens.
   A message that is late is a step that comes late. Appends that were overtaken by later ones of their epoch do not occur:
   they would change nothing, since a copy is cut only where it differs. An entry counts as acknowledged once the last of
   the copies that it needs is stored and heard of, the earliest moment possible, so that whatever comes between that and
   the words to the participant or client comes after it here.

   Held by assertions, each time that anything is acknowledged:
     - no index is ever acknowledged with two different entries;
     - a coordinator that begins to acknowledge has every entry in its log that was acknowledged before;
     - from then on none of a lower epoch acknowledges anything more.

   spec/README.md has the variants, each of which breaks one rule and is found broken, and the figures. */

#ifndef NODES
#define NODES 3
#endif
#ifndef VOTES
#define VOTES 2                     /* promises to take over, in a set of three, one's own included */
#endif
#ifndef ACK
#define ACK 2                       /* journals before anything is acknowledged, in a set of three, one's own included */
#endif
#ifndef FENCE
#define FENCE 1                     /* orders of a lower epoch than promised are refused */
#endif
#ifndef ROUNDS
#define ROUNDS 3                    /* how often, all nodes together, one stands as candidate */
#endif
#ifndef FACTS
#define FACTS 1                     /* entries that one coordinator writes, TookOver included, changes of the set not */
#endif
#ifndef LENGTH
#define LENGTH 4                    /* of a log at most; further entries are not written */
#endif
#ifndef CHANGES
#define CHANGES 0                   /* of the replica set, all coordinators together */
#endif
#ifndef REBOOTS
#define REBOOTS 0                   /* machines that go down with the newest entries not yet on their disk */
#endif
#ifndef LATECOMERS
#define LATECOMERS 0                /* 1: the third assertion is left out */
#endif
#ifndef LOST_ACKS
#define LOST_ACKS 1                 /* 0: a coordinator hears of each copy. What hears less can do less */
#endif
#ifndef REACH
#define REACH 0                     /* a number of SEEN: that it is reached is reported like a fault */
#endif
#if !defined(FIRST_SET) && !defined(GROWS)
#define FIRST_SET 7                 /* sets are masks: nodes 0, 1 and 2 */
#endif

#ifdef GROWS                        /* from two seats, of which each may go on alone, to three: a quorum */
#define FIRST_SET 3
#define NEWCOMER 2
#else
#define NEWCOMER 3
#endif

#if ROUNDS > 6 || LENGTH > 7
#error an epoch has five bits here, and a length three
#endif

#define BIT(node) (1 << (node))
#define SEEN(number, condition) assert(!(REACH == number && (condition)))

/* An epoch is (counter, node); epoch (1, 0) belongs to node 0 without a vote. */
#define FIRST_EPOCH 4
#define COUNTER(epoch) ((epoch) >> 2)
#define NEXT_EPOCH(epoch, node) (((COUNTER(epoch) + 1) << 2) + (node))

/* An entry is the epoch that wrote it, for at one index a coordinator writes one entry only; and which seat it changes. */
#define EPOCH(entry) ((entry) & 31)
#define CHANGED(entry) ((entry) >> 5)
#define CHANGE(epoch, node) ((epoch) + (((node) + 1) << 5))
#define AFTER(set, entry) ((set) ^ (CHANGED(entry) -> BIT(CHANGED(entry) - 1) : 0))

#define SIZE(set) (((set) & 1) + (((set) >> 1) & 1) + (((set) >> 2) & 1) + (((set) >> 3) & 1))

/* A majority of four is one more than one of three. Fewer than three take over and acknowledge alone (`available`). */
#ifdef GROWS
#define NEEDED(three, set) (SIZE(set) == 4 -> (three) + 1 : (SIZE(set) == 3 -> (three) : 1))
#ifdef GROWS_BY_OLD_SET
#define MAKES_QUORUM(set, entry) false
#else
#define MAKES_QUORUM(set, entry) (SIZE(set) == 2 && SIZE(AFTER(set, entry)) == 3)
#endif
#else
#define NEEDED(three, set) (SIZE(set) == 4 -> (three) + 1 : (three))
#define MAKES_QUORUM(set, entry) false
#endif

/* Which of two logs is adopted: the greater in this. */
#ifdef LONGEST_LOG
#define RANK(epoch, length) (((length) << 5) + (epoch))
#else
#define RANK(epoch, length) (((epoch) << 3) + (length))
#endif

mtype:role = { follower, candidate, coordinator }

typedef Log { byte entry[LENGTH] }            /* ends at the first 0 */
typedef Match { byte length[NODES] }          /* how far each copy is known to agree */

/* On disk. */
Log log[NODES];
byte promised[NODES];
bool unsure[NODES];                           /* may lack entries that it once confirmed */

/* In memory. */
mtype:role role[NODES];
byte epoch[NODES];                            /* in which it stands or reigns */
byte votes[NODES];                            /* whose it counted */
byte source[NODES];                           /* the voter whose log it adopts */
byte best[NODES];                             /* and the rank of that log when it voted */
Match match[NODES];

/* What the assertions remember. */
byte acknowledged[LENGTH];
byte newest;                                  /* epoch of whoever acknowledged */
byte rounds, changes, reboots;

/* Scratch of one d_step, and no part of the state. What an inline leaves in it is named beside it, after an arrow. */
hidden byte at, same, set, count, top, length, last, other, held, seats, needed;

inline measure(node) {                        /* -> length, last, set */
  length = 0; last = 0; set = FIRST_SET;
  do
  :: length < LENGTH && log[node].entry[length] ->
     last = EPOCH(log[node].entry[length]);
     set = AFTER(set, log[node].entry[length]);
     length++
  :: else -> break
  od
}

inline compare(one, two) {                    /* -> same: how many entries two logs have in common */
  same = 0;
  do
  :: same < LENGTH && log[one].entry[same] && log[one].entry[same] == log[two].entry[same] -> same++
  :: else -> break
  od
}

inline copy(from, to, upto) {                 /* agrees up to there; what was different behind the agreement is cut */
  compare(from, to);
#ifdef NO_PREDECESSOR
  same = upto - 1;                            /* only the newest entry, wherever it falls */
#endif
#ifdef CUT_BY_OVERTAKEN
  at = upto; held = false;
#else
  at = upto; held = upto <= same;
#endif
  do
  :: !held && same < upto -> log[to].entry[same] = log[from].entry[same]; same++
  :: !held && same >= upto && at < LENGTH -> log[to].entry[at] = 0; at++
  :: else -> break
  od
}

inline stand_down(node) {
  role[node] = follower; epoch[node] = 0; votes[node] = 0; source[node] = 0; best[node] = 0;
  at = 0;
  do
  :: at < NODES -> match[node].length[at] = 0; at++
  :: else -> break
  od
}

inline promise(node, to) {                    /* on disk before anything is answered */
  promised[node] = to;
#if FENCE
  if
  :: role[node] != follower && epoch[node] != to -> stand_down(node)
  :: else
  fi
#endif
}

#if FENCE
#define IN_OFFICE(node) (promised[node] == epoch[node])
#define OBEYS(node, order) (promised[node] <= (order))
#ifdef LENDS_TO_ANY
#define LENDS(node, order) true
#else
#define LENDS(node, order) (promised[node] == (order))
#endif
#else
#define IN_OFFICE(node) true
#define OBEYS(node, order) true
#define LENDS(node, order) true
#endif

#ifdef COUNT_A_LEARNER
#define COUNTS(set, node) true
#else
#define COUNTS(set, node) ((set) & BIT(node))
#endif

#ifdef ADOPTED_AT_ONCE
#define COMMITS(node, entry) true
#else
#define COMMITS(node, entry) (EPOCH(entry) == epoch[node])      /* its own, with all that precedes it */
#endif

/* -> top: how far the log of a coordinator is on enough journals. A change counts in the set before it, what follows in
   the set after it, and nothing counts before what precedes it. */
inline commit(node) {
#ifdef COUNT_IN_NEWEST_SET
  measure(node);
#else
  set = FIRST_SET;
#endif
  at = 0; top = 0; held = true;
  do
  :: held && at < LENGTH && log[node].entry[at] ->
     seats = set; needed = NEEDED(ACK, set);
     if
     :: MAKES_QUORUM(set, log[node].entry[at]) -> seats = AFTER(set, log[node].entry[at]); needed = 3
     :: else
     fi;
     count = 0; other = 0;
     do
     :: other < NODES ->
        count = count + (COUNTS(seats, other) && (other == node || match[node].length[other] > at));
        other++
     :: else -> break
     od;
     held = count >= needed;
     if
     :: held && COMMITS(node, log[node].entry[at]) -> top = at + 1
     :: else
     fi;
#ifndef COUNT_IN_NEWEST_SET
     set = (held -> AFTER(set, log[node].entry[at]) : set);
#endif
     at++
  :: else -> break
  od
}

inline acknowledge(node) {
  commit(node);
#ifdef GROWS
  top = (SIZE(set) == 3 -> top : 0);          /* two seats promise nothing */
#endif
  at = 0;
  do
  :: at < top ->
     assert(!acknowledged[at] || acknowledged[at] == log[node].entry[at]);
     assert(acknowledged[at] || epoch[node] >= newest || LATECOMERS);
     acknowledged[at] = log[node].entry[at];
     at++
  :: at >= top && top && epoch[node] > newest && at < LENGTH ->
     assert(!acknowledged[at] || acknowledged[at] == log[node].entry[at]);
     at++
  :: else -> break
  od;
  SEEN(8, top && newest && epoch[node] > newest);
  newest = (top && epoch[node] > newest -> epoch[node] : newest);
  SEEN(3, top == 3 && COUNTER(EPOCH(acknowledged[2])) == 3
          && COUNTER(EPOCH(acknowledged[1])) == 2 && COUNTER(EPOCH(acknowledged[0])) == 1)
}

/* Whether a candidate has enough votes in the set of its own log: -> held, set, last, length. */
inline poll(node) {
  measure(node);
#ifdef NO_RECOUNT
  set = FIRST_SET;
#endif
  count = 0; other = 0;
  do
  :: other < NODES -> count = count + ((votes[node] & BIT(other)) && COUNTS(set, other)); other++
  :: else -> break
  od;
  held = count >= NEEDED(VOTES, set) && (set & BIT(node))
}

#define STANDS(node) (role[node] == candidate && IN_OFFICE(node))
#define REIGNS(node) (role[node] == coordinator && IN_OFFICE(node))

inline stand(node) {
  measure(node);
  if
  :: set & BIT(node) ->
     rounds++;
     stand_down(node);
     promised[node] = NEXT_EPOCH(promised[node], node);
     role[node] = candidate; epoch[node] = promised[node];
     votes[node] = BIT(node); source[node] = node; best[node] = RANK(last, length)
  :: else
  fi
}

inline vote(node, voter) {
  measure(voter);
  votes[node] = votes[node] | BIT(voter);
  if
  :: RANK(last, length) > best[node] -> best[node] = RANK(last, length); source[node] = voter
  :: else
  fi
}

inline take_over(node) {                      /* once the log adopted is whole, and still enough voted */
  poll(node);
  if
  :: held && length < LENGTH && RANK(last, length) == best[node] ->
     at = 0;
     do
     :: at < NODES ->
        other = 0;
        do
        :: other < NODES ->
           SEEN(1, at != node && role[at] == coordinator && COUNTER(epoch[at]) > 1 && match[at].length[other]
                   && match[at].length[other] < LENGTH && log[at].entry[match[at].length[other]]);
           other++
        :: else -> break
        od;
        at++
     :: else -> break
     od;
     at = 0;
     do
     :: at < length -> SEEN(4, CHANGED(log[node].entry[at]) && !acknowledged[at]); at++
     :: else -> break
     od;
     SEEN(5, node == NEWCOMER);
     log[node].entry[length] = epoch[node];
     role[node] = coordinator; votes[node] = 0; source[node] = 0; best[node] = 0;
     acknowledge(node)
  :: else
  fi
}

inline record(node) {
  measure(node);
  count = 0; at = 0;
  do
  :: at < length -> count = count + (log[node].entry[at] == epoch[node]); at++
  :: else -> break
  od;
  if
  :: count < FACTS && length < LENGTH -> log[node].entry[length] = epoch[node]; acknowledge(node)
  :: else
  fi
}

inline append(node, to, upto_) {
  compare(node, to);
#if FENCE
  promise(to, epoch[node]);
#else
  if
  :: same < upto_ && log[to].entry[same] && role[to] != follower -> stand_down(to)   /* its own log is no more */
  :: else
  fi;
#endif
  copy(node, to, upto_);
  compare(node, to);
  measure(node);
  if
  :: unsure[to] && same == length -> unsure[to] = false; SEEN(7, true)
  :: else
  fi
}

inline hear(node, to) {
  compare(node, to);
  if
  :: !unsure[to] && same > match[node].length[to] -> match[node].length[to] = same; acknowledge(node)
  :: else
  fi
}

/* None while another is uncommitted, or before one's own first entry is committed; the newcomer has caught up. */
inline change(node, seat) {
  commit(node);
  measure(node);
  other = 0; at = 0;
  do
  :: at < length -> other = (CHANGED(log[node].entry[at]) -> at + 1 : other); at++
  :: else -> break
  od;
#ifdef CHANGE_BEFORE_TOOKOVER
  held = other <= top;
#else
#ifdef CHANGES_PENDING
  held = top;
#else
  held = top && other <= top;
#endif
#endif
#ifndef NEWCOMER_AT_ONCE
  held = held && (seat != NEWCOMER || match[node].length[seat] >= top);
#endif
  if
  :: held && length < LENGTH && (seat == NEWCOMER -> !(set & BIT(seat)) : (set & BIT(seat)) && SIZE(set) == 4) ->
     changes++;
     log[node].entry[length] = CHANGE(epoch[node], seat);
     acknowledge(node)
  :: else
  fi
}

inline lose(node, keep_) {
  stand_down(node);
  at = keep_;
  do
  :: at < LENGTH -> log[node].entry[at] = 0; at++
  :: else -> break
  od
}

#define STANDS(node) (role[node] == candidate && IN_OFFICE(node))
#define REIGNS(node) (role[node] == coordinator && IN_OFFICE(node))
#define BEHIND(node, other) (match[node].length[other] < LENGTH && log[node].entry[match[node].length[other]])

/* What a node does by itself. */
proctype Node(byte me) {
  byte keep;
end:
  do
  :: d_step { rounds < ROUNDS && !unsure[me] -> stand(me) }
  :: d_step { STANDS(me) -> take_over(me) }
  :: d_step { REIGNS(me) -> record(me) }
#if REBOOTS
  :: atomic { reboots < REBOOTS && log[me].entry[0] ->          /* the newest entries are lost; promises never are */
       do
       :: keep + 1 < LENGTH && log[me].entry[keep + 1] -> keep++
       :: break
       od;
       true;                                  /* no jump may lead into a d_step */
       d_step {
         lose(me, keep); reboots++; keep = 0;
#ifndef REBOOTED_COUNTS
         unsure[me] = true
#endif
       }
     }
#endif
#ifdef FORGET_PROMISE
  :: d_step { promised[me] > FIRST_EPOCH -> stand_down(me); promised[me] = FIRST_EPOCH }
#endif
#ifdef EMPTY_DISK
  :: d_step { !reboots -> reboots++; lose(me, 0); promised[me] = FIRST_EPOCH }
#endif
  od
}

/* What a node does with another. */
proctype Link(byte me, you) {
  byte upto;
end:
  do
  :: d_step { STANDS(me) && promised[you] < epoch[me] && !unsure[you] ->   /* asks, is heard, and hears the answer */
       promise(you, epoch[me]); vote(me, you) }
  :: d_step { STANDS(me) && promised[you] < epoch[me] && !unsure[you] ->   /* the answer is lost */
       promise(you, epoch[me]) }
  :: d_step { STANDS(me) && promised[you] == epoch[me] && !(votes[me] & BIT(you)) && !unsure[you] ->   /* asks again */
       vote(me, you) }

  :: atomic { STANDS(me) && source[me] == you && LENDS(you, epoch[me]) ->  /* adopts, piece by piece */
       d_step {
         poll(me); compare(you, me);
         upto = (held && same < LENGTH && log[you].entry[same] -> same + 1 : 0)
       };
       if
       :: upto == 0
       :: upto ->
          do
          :: upto < LENGTH && log[you].entry[upto] -> upto++
          :: break
          od;
          true;
          d_step {
            compare(you, me);
            SEEN(2, log[me].entry[same]);
            copy(you, me, upto); upto = 0;
            poll(me);
            SEEN(6, !held)
          }
       fi
     }

  /* Appends, piece by piece. What a replica held before it rebooted counts on; itself it counts again once it has all. */
  :: atomic { REIGNS(me) && (BEHIND(me, you) || unsure[you] && log[me].entry[0]) && OBEYS(you, epoch[me]) ->
       upto = (unsure[you] -> 1 : match[me].length[you] + 1);
       do
       :: upto < LENGTH && log[me].entry[upto] -> upto++
       :: break
       od;
       if
       :: d_step { append(me, you, upto); hear(me, you); upto = 0 }
#if LOST_ACKS
       :: d_step { append(me, you, upto); upto = 0 }
#endif
       fi
     }

#if CHANGES
  :: d_step { REIGNS(me) && changes < CHANGES -> change(me, you) }
#endif
  od
}

init {
  byte one, two;
  atomic {
    for (one : 0 .. NODES - 1) { promised[one] = FIRST_EPOCH; role[one] = follower };
    role[0] = coordinator; epoch[0] = FIRST_EPOCH;
    for (one : 0 .. NODES - 1) {
      run Node(one);
      for (two : 0 .. NODES - 1) {
        if
        :: one != two -> run Link(one, two)
        :: else
        fi
      }
    };
    one = 0; two = 0
  }
}
