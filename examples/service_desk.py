"""A made customer service: dialogues on twelve matters, and the replies that its agents give.

Customers open with a matter, are asked for an order or an account, are offered two ways out, choose one, and leave or
come up with something else. They say each thing in many ways, of which some are kept back for dialogues that training
never sees. What they choose by ("my money back, please") is said alike of every matter, and whoever has been asked for
the order is not asked again: the right reply takes the whole dialogue, and not its last turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: reply -> how agents say it, and how they will say it under a new style guide, which training never sees
REPLIES = {
    "ask-order": ("Could you tell me the number of your order?", "May I have your order number first?"),
    "ask-account": (
        "Which e-mail address is your account under?",
        "Please give me the e-mail that you signed up with.",
    ),
    "late-offer": (
        "The parcel is held up at the depot. Would you wait, or shall we ship it once more?",
        "Your delivery is delayed in the warehouse. Will you be patient, or do we dispatch another one?",
    ),
    "late-goods": ("A second parcel leaves today by express.", "We dispatch a new delivery by courier today."),
    "late-money": (
        "I called the parcel back and returned the price.",
        "Your delivery is stopped, and what you paid for it comes back.",
    ),
    "broken-offer": (
        "Sorry that it came damaged. Do you want another one or the price back?",
        "I regret the broken article. Replacement or refund?",
    ),
    "broken-goods": (
        "An undamaged one is on its way, keep the broken one.",
        "We replace the damaged article; throw the old one away.",
    ),
    "broken-money": ("The price of the damaged article is refunded.", "You get a refund for what arrived broken."),
    "size-offer": (
        "We can swap it for another size, or take it back.",
        "For the wrong size, you can exchange it or return it.",
    ),
    "size-goods": (
        "The other size is reserved, a label for the exchange is attached.",
        "Exchange arranged: your new size comes when the label is used.",
    ),
    "size-money": (
        "Send the ill-fitting one back with this label, then we refund it.",
        "Return what does not fit, and you are refunded.",
    ),
    "charge-offer": (
        "You were indeed charged twice. To the card, or as credit?",
        "I do see two payments. Shall I reverse one, or note a credit?",
    ),
    "charge-money": (
        "The second charge is reversed on your card.",
        "I cancelled the double payment; your bank shows it soon.",
    ),
    "charge-goods": (
        "The double payment is a credit for your next order.",
        "What you paid twice is now credit in the shop.",
    ),
    "invoice-offer": (
        "Shall the invoice come by e-mail or on paper?",
        "Do you want the bill electronically or printed?",
    ),
    "invoice-mail": ("The invoice is in your inbox.", "I e-mailed you the bill."),
    "invoice-paper": ("The invoice goes out by post tomorrow.", "A printed bill is posted tomorrow."),
    "address-offer": (
        "Is the new address for this order only or from now on?",
        "Should we deliver to the other address once or always?",
    ),
    "address-now": (
        "This order goes to the new address, the rest stays.",
        "I redirected this one delivery to the other address.",
    ),
    "address-always": (
        "Your new address is saved for all orders.",
        "From today we deliver everything to the other address.",
    ),
    "cancel-offer": (
        "The subscription can end today or with the paid month.",
        "Shall I stop the subscription right away, or when the month is over?",
    ),
    "cancel-now": (
        "Your subscription has ended as of today.",
        "Done: the subscription is stopped with immediate effect.",
    ),
    "cancel-always": ("Your subscription runs out with this month.", "The subscription stops once the month is over."),
    "password-offer": (
        "I can send a link to reset the password, or a letter with a code.",
        "To set a new password: link by e-mail, or code by letter?",
    ),
    "password-mail": (
        "The link for a new password is on its way to your inbox.",
        "I e-mailed the link to reset your password.",
    ),
    "password-paper": (
        "A letter with the code for your password is in the post.",
        "The code to reset your password comes by letter.",
    ),
    "app-offer": (
        "Does the crash stop you right now, or can it wait for the update?",
        "Do you need the app at once, or can you wait for its next version?",
    ),
    "app-now": (
        "Install this test version of the app, which does not crash.",
        "Here is a preview of the app without the fault.",
    ),
    "app-always": (
        "The update that mends the crash comes on Monday.",
        "The next version of the app, on Monday, cures it.",
    ),
    "voucher-offer": (
        "The voucher had run out. A new one, or the difference in cash?",
        "Your discount code expired. Shall I renew it, or pay you the amount?",
    ),
    "voucher-goods": ("Here is a new voucher: SPRING20.", "Your renewed discount code is SPRING20."),
    "voucher-money": ("The voucher's value is paid out to you.", "You are paid the amount of the discount."),
    "repair-offer": (
        "It is under guarantee: we repair it, or you get your payment back.",
        "The warranty covers it. Mending, or reimbursement?",
    ),
    "repair-goods": ("The courier fetches it for repair on Thursday.", "It is collected on Thursday and mended."),
    "repair-money": ("The guarantee pays the full price back.", "The warranty reimburses all that it cost."),
    "delete-offer": (
        "Your data can be erased at once or after the next bill.",
        "Shall the account and its data go immediately, or after the last statement?",
    ),
    "delete-now": ("Your account and all data are erased.", "All that we knew of you is deleted."),
    "delete-always": (
        "Your account will be erased after the next bill.",
        "We delete everything once the last statement is out.",
    ),
    "bye": ("You're welcome, have a nice day!", "My pleasure, enjoy the day!"),
    "bye-survey": ("Glad to help. Would you rate this chat?", "Happy that it worked out. Please leave a rating."),
}  # fmt: skip
#: matter -> what has to be asked first, the two ways out, and how it is put; the last two ways are never in training
MATTERS = {
    "late": ("order", ("goods", "money"), [
        "my parcel has not arrived.", "where is my package?", "the delivery is a week late.",
        "I am still waiting for my order.", "tracking has shown nothing for days.", "my shipment seems to be lost.",
        "nothing has come yet, it should have been here on Friday.", "the courier never turned up.",
    ]),
    "broken": ("order", ("goods", "money"), [
        "the vase came in blobs.", "the screen is cracked.", "it arrived damaged.",
        "the lamp was broken in its box.", "there is a big dent in it.", "the glass is shattered.",
        "what I unpacked is smashed.", "one leg of the chair had snapped off.",
    ]),
    "size": ("order", ("goods", "money"), [
        "the shoes are too small.", "the jacket does not fit.", "I need a larger size.",
        "the trousers are too long.", "I ordered the wrong size.", "the shirt is too tight.",
        "this dress is much too wide for me.", "the boots pinch, I take a 43.",
    ]),
    "charge": ("order", ("money", "goods"), [
        "you charged me twice.", "the amount was taken two times.", "I paid double.",
        "my card shows the same payment twice.", "there are two debits for one order.", "I was billed twice.",
        "my bank statement lists your charge two times.", "why is the money gone from my account twice?",
    ]),
    "invoice": ("order", ("mail", "paper"), [
        "I need an invoice.", "could I have a copy of the bill?", "the receipt is missing.",
        "my company wants an invoice.", "please send me the receipt again.", "I cannot find the bill.",
        "for my taxes I have to have the receipt.", "there was no invoice in the parcel.",
    ]),
    "address": ("order", ("now", "always"), [
        "I have moved.", "my address has changed.", "please ship it to another address.",
        "the delivery address is wrong.", "I live in a different street now.", "I gave you an old address.",
        "we have a new flat since last week.", "can it be brought to my new home?",
    ]),
    "cancel": ("account", ("now", "always"), [
        "I want to cancel my subscription.", "please end my membership.", "how do I unsubscribe?",
        "I no longer want the monthly plan.", "stop the subscription, please.", "I'd like to quit my plan.",
        "I will not go on with the membership.", "no more monthly boxes for me, please.",
    ]),
    "password": ("account", ("mail", "paper"), [
        "I forgot my password.", "I cannot log in.", "my password does not work.", "the login fails.",
        "I need a new password.", "it says the password is wrong.", "I don't remember what I log in with.",
        "signing in is refused, wrong credentials.",
    ]),
    "app": ("account", ("now", "always"), [
        "the app crashes.", "your app closes by itself.", "the app freezes on my phone.", "the app won't open.",
        "since the update, the app hangs.", "the app shows a white page.",
        "your programme on my mobile shuts down all the time.", "the phone app gets stuck at the start.",
    ]),
    "voucher": ("account", ("goods", "money"), [
        "my voucher is not accepted.", "the discount code does not work.", "the coupon was refused.",
        "I cannot redeem my gift card.", "the promo code is invalid, it says.", "my voucher took nothing off.",
        "the rebate from my coupon is not there.", "your shop won't take my discount.",
    ]),
    "repair": ("order", ("goods", "money"), [
        "the toaster stopped working after a month.", "the mixer no longer starts.", "the radio has a fault.",
        "my headphones went silent.", "it is defective, is there a guarantee?",
        "the kettle does not heat any more.", "the motor died, and I have a warranty.",
        "after five weeks of use the fan won't turn.",
    ]),
    "delete": ("account", ("now", "always"), [
        "please delete my account.", "I want my data erased.", "remove all you know of me.",
        "close my account for good.", "how do I delete my profile?", "I want to be forgotten.",
        "my personal data should be wiped.", "take my profile off your servers.",
    ]),
}  # fmt: skip
#: what else customers say, the last two of each never in training
ANSWERS = {
    "order": [
        "It is {}.", "Order {}.", "The number is {}.", "{}, I think.", "That would be {}.", "Here it is: {}.",
        "On the slip it says {}.", "I have {} in front of me.",
    ],
    "account": [
        "It's reader{}@mail.example.", "reader{}@mail.example, please.", "My address is reader{}@mail.example.",
        "I use reader{}@mail.example.", "Under reader{}@mail.example.", "That's reader{}@mail.example.",
        "You'll find me as reader{}@mail.example.", "Look for reader{}@mail.example.",
    ],
    "money": [
        "I'd like my money back.", "A refund, please.", "Please give me the money.", "I prefer to be paid back.",
        "Just refund me.", "The money, please.", "Reimburse me, please.", "I'd rather see it on my account again.",
    ],
    "goods": [
        "Please send a new one.", "I'd like another one.", "A replacement, please.",
        "I still want it, send it again.", "The other thing: not the money.", "A new one would be fine.",
        "I'd rather have one that is in order.", "No refund, I do want the product.",
    ],
    "mail": [
        "By e-mail.", "E-mail is fine.", "Send a mail, please.", "To my inbox.", "Electronically, please.",
        "Mail it to me.", "Online will do.", "As an electronic message.",
    ],
    "paper": [
        "On paper, please.", "By post.", "As a letter.", "In the letter box, please.", "I prefer paper.",
        "Please post it.", "I want to hold it in my hands, printed.", "In an envelope, to my home.",
    ],
    "now": [
        "Right now.", "At once, please.", "Immediately.", "Now, only this time.", "As soon as you can.", "Today.",
        "I can't wait, do it straight away.", "This very moment, please.",
    ],
    "always": [
        "It can wait.", "Later is fine.", "There is no hurry, for good.", "At the end, then, and for always.",
        "Take your time.", "Not today, from then on.", "I am patient, whenever it suits you.", "No rush at all.",
    ],
    "thanks": [
        "Thank you!", "Great, thanks.", "That helps a lot.", "Perfect.", "Thanks, that was all.", "Wonderful, bye.",
        "You were a great help.", "Lovely, I am happy.", "Many thanks for your kindness.",
        "That was quick, cheers!", "Much obliged.", "You made my day.",
    ],
}  # fmt: skip
GREETINGS = ["Hello, ", "Hi, ", "Good morning, ", ""]
_UNHEARD = 2
#: how dialogues go on, and how agents end them
ANOTHER_MATTER = 0.3
SURVEY = 0.4


@dataclass(frozen=True)
class Turn:
    """One turn: what is said, and by whom.

    Attributes:
        text: the words.
        reply: which of ``REPLIES`` it is; None for a customer's.
        chance: the probability, for an agent's turn, of this reply after what was said before.
    """

    text: str
    reply: str | None = None
    chance: float = 1.0


def dialogue(random: np.random.Generator, unheard: bool = False) -> list[Turn]:
    """One dialogue, the customer's and the agent's turns in alternation; ``unheard``: in words kept out of training."""
    turns: list[Turn] = []
    asked: set[str] = set()

    def customer(ways: list[str], number: int = 0, greeting: str = "") -> None:
        way = str(random.choice(ways[-_UNHEARD:] if unheard else ways[:-_UNHEARD])).format(number)
        text = greeting + way if greeting else way
        turns.append(Turn(text[0].upper() + text[1:]))

    def agent(reply: str, chance: float = 1.0) -> None:
        turns.append(Turn(REPLIES[reply][0], reply, chance))

    matters = list(random.permutation(list(MATTERS))[: 1 + (random.random() < ANOTHER_MATTER)])
    number = int(random.integers(100, 130))
    for place, matter in enumerate(matters):
        ask, choices, ways = MATTERS[matter]
        customer(ways, greeting="Also, " if place else str(random.choice(GREETINGS)))
        if ask not in asked:
            agent(f"ask-{ask}")
            customer(ANSWERS[ask], number)
            asked.add(ask)
        agent(f"{matter}-offer")
        choice = str(random.choice(choices))
        customer(ANSWERS[choice])
        agent(f"{matter}-{choice}")
    customer(ANSWERS["thanks"])
    agent(*(("bye-survey", SURVEY) if random.random() < SURVEY else ("bye", 1 - SURVEY)))
    return turns
